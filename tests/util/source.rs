//! Rust source as `tidy.rs` needs to see it: words and signs with their line
//! numbers, without comments, and with string contents out of the way.

/// A word, sign or literal of a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    Sign,
    Literal,
    Lifetime,
}

impl Token {
    pub(crate) fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Sign) && self.text == text
    }
}

/// Splits Rust source into tokens; comments vanish, a literal is one token.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
        line: 1,
        out: Vec::new(),
    };
    while lexer.at < lexer.chars.len() {
        lexer.step();
    }
    lexer.out
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    out: Vec<Token>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn bump(&mut self) -> char {
        let c = self.peek(0);
        self.at += 1;
        if c == '\n' {
            self.line += 1;
        }
        c
    }

    fn push(&mut self, kind: Kind, from: usize, line: usize) {
        let end = self.at.min(self.chars.len());
        let text = self.chars[from..end].iter().collect();
        self.out.push(Token { kind, text, line });
    }

    fn step(&mut self) {
        let (from, line, c) = (self.at, self.line, self.peek(0));
        if c.is_whitespace() {
            self.bump();
        } else if c == '/' && self.peek(1) == '/' {
            while self.at < self.chars.len() && self.peek(0) != '\n' {
                self.bump();
            }
        } else if c == '/' && self.peek(1) == '*' {
            self.block_comment();
        } else if let Some(hashes) = self.raw_string() {
            self.raw_rest(hashes);
            self.push(Kind::Literal, from, line);
        } else if c == '"' || (matches!(c, 'b' | 'c') && self.peek(1) == '"') {
            self.quoted('"');
            self.push(Kind::Literal, from, line);
        } else if c == 'b' && self.peek(1) == '\'' {
            self.quoted('\'');
            self.push(Kind::Literal, from, line);
        } else if c == '\'' {
            self.quote(from, line);
        } else if c.is_alphabetic() || c == '_' {
            if c == 'r' && self.peek(1) == '#' {
                self.at += 2;
            }
            self.word();
            self.push(Kind::Word, from, line);
        } else if c.is_ascii_digit() {
            self.word();
            self.push(Kind::Literal, from, line);
        } else {
            self.bump();
            self.push(Kind::Sign, from, line);
        }
    }

    fn word(&mut self) {
        while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
            self.bump();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => (depth, self.at) = (depth + 1, self.at + 2),
                ('*', '/') => (depth, self.at) = (depth - 1, self.at + 2),
                _ => _ = self.bump(),
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Whether a raw string begins here, and with how many `#`.
    fn raw_string(&self) -> Option<usize> {
        let prefix = match (self.peek(0), self.peek(1)) {
            ('r', _) => 1,
            ('b' | 'c', 'r') => 2,
            _ => return None,
        };
        let rest = self.chars.iter().skip(self.at + prefix);
        let hashes = rest.take_while(|c| **c == '#').count();
        (self.peek(prefix + hashes) == '"').then_some(hashes)
    }

    fn raw_rest(&mut self, hashes: usize) {
        while self.bump() != '"' {}
        while self.at < self.chars.len() {
            if self.bump() == '"' && (0..hashes).all(|n| self.peek(n) == '#') {
                self.at += hashes;
                return;
            }
        }
    }

    fn quoted(&mut self, end: char) {
        while self.bump() != end {}
        while self.at < self.chars.len() {
            match self.bump() {
                '\\' => _ = self.bump(),
                c if c == end => return,
                _ => {}
            }
        }
    }

    /// A character literal or a lifetime.
    fn quote(&mut self, from: usize, line: usize) {
        if self.peek(1) == '\\' || self.peek(2) == '\'' {
            self.quoted('\'');
            self.push(Kind::Literal, from, line);
        } else {
            self.bump();
            self.word();
            self.push(Kind::Lifetime, from, line);
        }
    }
}

/// Where the bracket opened at `open` closes, or the end of the tokens.
pub(crate) fn close_of(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if token.kind != Kind::Sign {
            continue;
        }
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len().saturating_sub(1)
}

/// Where an item that begins at `from` ends: its `;` or its closing brace.
fn item_end(tokens: &[Token], from: usize) -> usize {
    let mut at = from;
    while at < tokens.len() {
        if tokens[at].is(";") {
            return at;
        }
        if tokens[at].is("{") {
            return close_of(tokens, at);
        }
        at = if tokens[at].is("(") || tokens[at].is("[") {
            close_of(tokens, at)
        } else {
            at
        } + 1;
    }
    tokens.len().saturating_sub(1)
}

/// The tokens without the items that only a test build has.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attribute = tokens[at].is("#") && tokens.get(at + 1).is_some_and(|t| t.is("["));
        if !attribute {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = close_of(tokens, at + 1);
        let words: String = tokens[at + 2..end].iter().map(|t| t.text.as_str()).collect();
        if words == "cfg(test)" || words.starts_with("cfg(all(test,") {
            at = item_end(tokens, end + 1) + 1;
        } else {
            out.extend_from_slice(&tokens[at..=end]);
            at = end + 1;
        }
    }
    out
}

/// A function with a body: its name and its first and last line.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

pub(crate) fn functions(tokens: &[Token]) -> Vec<Function> {
    let mut out = Vec::new();
    for at in 0..tokens.len() {
        let Some(name) = tokens.get(at + 1) else { break };
        if !tokens[at].is("fn") || name.kind != Kind::Word {
            continue;
        }
        let end = item_end(tokens, at);
        if tokens[end].is("}") {
            let (first, last) = (tokens[at].line, tokens[end].line);
            out.push(Function {
                name: name.text.clone(),
                first,
                last,
            });
        }
    }
    out
}

/// A path into the crate that a file mentions, made absolute: `a::b::C`.
#[derive(Debug)]
pub(crate) struct Mention {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// Every `crate::`, `super::` and `self::` path, and every `use` of a child
/// module, in a file whose own module is `module` (`["pool", "worker"]`).
pub(crate) fn mentions(tokens: &[Token], module: &[String]) -> Vec<Mention> {
    let mut out = Vec::new();
    let mut inner: Vec<(String, usize)> = Vec::new();
    let children = child_modules(tokens);
    let mut at = 0;
    while at < tokens.len() {
        inner.retain(|(_, end)| at <= *end);
        if tokens[at].is("mod") && tokens.get(at + 2).is_some_and(|t| t.is("{")) {
            inner.push((tokens[at + 1].text.clone(), close_of(tokens, at + 2)));
            at += 3;
            continue;
        }
        let here: Vec<String> = module
            .iter()
            .cloned()
            .chain(inner.iter().map(|(name, _)| name.clone()))
            .collect();
        let in_use = at > 0 && tokens[at - 1].is("use");
        let child = in_use && children.contains(&tokens[at].text) && inner.is_empty();
        let rooted = ["crate", "super", "self"].iter().any(|w| tokens[at].is(w));
        let path = rooted && separator(tokens, at + 1) && !(at > 1 && separator(tokens, at - 2));
        if child || path {
            let mut found = Vec::new();
            at = tree(tokens, at, Vec::new(), &mut found);
            for (path, line) in found {
                out.push(Mention {
                    path: absolute(path, &here, child),
                    line,
                });
            }
        } else {
            at += 1;
        }
    }
    out
}

/// The modules this file declares without a body.
fn child_modules(tokens: &[Token]) -> Vec<String> {
    tokens
        .windows(3)
        .filter(|w| w[0].is("mod") && w[1].kind == Kind::Word && w[2].is(";"))
        .map(|w| w[1].text.clone())
        .collect()
}

fn separator(tokens: &[Token], at: usize) -> bool {
    let colon = |at: usize| tokens.get(at).is_some_and(|t| t.is(":"));
    colon(at) && colon(at + 1)
}

/// Reads a path or a `use` tree from `at`; answers where it stopped.
fn tree(
    tokens: &[Token],
    mut at: usize,
    mut path: Vec<String>,
    found: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let line = tokens.get(at).map_or(0, |t| t.line);
    loop {
        match tokens.get(at) {
            Some(token) if token.is("{") => {
                let end = close_of(tokens, at);
                at += 1;
                while at < end {
                    let next = tree(tokens, at, path.clone(), found).max(at + 1);
                    at = next;
                    while at < end && !tokens[at].is(",") {
                        at += 1;
                    }
                    at += 1;
                }
                return end + 1;
            }
            Some(token) if token.kind == Kind::Word || token.is("*") => {
                path.push(token.text.clone());
                at += 1;
            }
            _ => {
                found.push((path, line));
                return at;
            }
        }
        if !separator(tokens, at) {
            found.push((path, line));
            return at;
        }
        at += 2;
    }
}

fn absolute(path: Vec<String>, here: &[String], child: bool) -> Vec<String> {
    let mut base: Vec<String> = here.to_vec();
    let mut rest = path.into_iter().peekable();
    if child {
        base.extend(rest);
        return base;
    }
    while let Some(word) = rest.peek() {
        match word.as_str() {
            "crate" => base.clear(),
            "super" => _ = base.pop(),
            "self" => {}
            _ => break,
        }
        rest.next();
    }
    base.extend(rest);
    base
}
