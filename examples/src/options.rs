//! The command line of the examples: options with ranges, errors that name the option, and the
//! exit codes.
//!
//! A program implements [`Options`] and calls [`main`]. Options that several servers have are in
//! [`common`]; a program says which groups of them it has. The help text lists one option a line,
//! so the names that a misspelt option is compared with come from it.

pub mod common;

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};

use crate::origin::AllowedOrigins;

/// The exit code for invalid options. A failure of the program itself is 1.
const BAD_OPTIONS: u8 = 2;

/// Why parsing has ended without options.
#[derive(Debug)]
pub enum Stop {
    /// The user wants the help text.
    Help,
    /// An error in the options: one line that names the option.
    BadOption(String),
}

/// The options of one program. Their defaults are those of `Default`.
pub trait Options: Default {
    /// What the program does, and an empty line below it.
    const ABOUT: &str;
    /// The help text of the options that only this program has.
    const OWN: &str;
    const EXIT_CODES: &str = common::EXIT_CODES;

    /// Reads the value of an option that is in no group. An option that the program does not have
    /// is [`Arguments::unknown`].
    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<(), Stop>;

    /// The groups of options that the program shares with others.
    fn groups(&mut self) -> Vec<&mut dyn Group> {
        Vec::new()
    }
}

/// Options that several programs have.
pub trait Group {
    /// Their help text, with ranges and defaults.
    fn help(&self) -> String;

    /// Reads the value of an option. False if it is not in this group.
    fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<bool, Stop>;
}

/// Parses the options and runs the program. Prints the help text, or `NAME: error` on stderr.
/// Returns 0 for success, 1 if `run` has failed and 2 if the options are wrong.
pub fn main<O: Options>(name: &str, run: impl FnOnce(&O) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let help = help::<O>(name);
    let mut arguments = Arguments::new(&help, lexopt::Parser::from_env());
    let (outcome, failure) = match parse(&mut arguments) {
        Ok(options) => (run(&options), ExitCode::FAILURE),
        Err(Stop::Help) => {
            let written = io::stdout().write_all(help.as_bytes());
            (written.map_err(Into::into), ExitCode::FAILURE)
        }
        Err(Stop::BadOption(error)) => (Err(error.into()), BAD_OPTIONS.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr must not replace the exit code with that of a panic.
            let _ = writeln!(io::stderr(), "{name}: {error}");
            failure
        }
    }
}

fn help<O: Options>(name: &str) -> String {
    let mut help = format!("{}\nUsage: {name} [options]\n\n{}", O::ABOUT, O::OWN);
    let mut options = O::default();
    let groups = options.groups();
    if !groups.is_empty() {
        if !O::OWN.is_empty() {
            help += "\n";
        }
        help += "Options that the example servers share:\n\n";
    }
    help.extend(groups.iter().map(|group| group.help()));
    help + "  --help                 this text\n\n" + O::EXIT_CODES
}

fn parse<O: Options>(arguments: &mut Arguments) -> Result<O, Stop> {
    let mut options = O::default();
    while let Some(name) = arguments.next_name()? {
        let mut is_shared = false;
        for group in options.groups() {
            is_shared = is_shared || group.read(&name, arguments)?;
        }
        if !is_shared {
            options.read(&name, arguments)?;
        }
    }
    Ok(options)
}

/// The arguments of the command line, read one option at a time.
#[derive(Debug)]
pub struct Arguments {
    parser: lexopt::Parser,
    /// Names every option.
    help: String,
    /// The option that was read last, with its dashes.
    option: String,
}

impl Arguments {
    fn new(help: &str, parser: lexopt::Parser) -> Self {
        Self {
            parser,
            help: help.to_owned(),
            option: String::new(),
        }
    }

    /// The name of the next option without its dashes, `None` at the end. Its value must be read
    /// before the next call. `--help` and `-h` are [`Stop::Help`].
    pub fn next_name(&mut self) -> Result<Option<String>, Stop> {
        let name = match self.parser.next() {
            Ok(None) => return Ok(None),
            Ok(Some(Long(name))) => name.to_owned(),
            Ok(Some(Short('h'))) => "help".to_owned(),
            Ok(Some(Short(letter))) => {
                return bad(format!("-{} is not an option; try --help", letter.escape_debug()));
            }
            Ok(Some(Value(value))) => {
                return bad(format!("{} is not an option; try --help", shown(&value)));
            }
            Err(error) => return bad(describe(&error)),
        };
        self.option = format!("--{}", name.escape_debug());
        if name == "help" {
            return match self.parser.optional_value() {
                None => Err(Stop::Help),
                Some(value) => bad(format!("--help: takes no value, but {} was given", shown(&value))),
            };
        }
        Ok(Some(name))
    }

    /// The error for an option that the program does not have.
    pub fn unknown(&self) -> Stop {
        let known = self.help.lines().filter_map(|line| {
            let line = line.trim_start();
            line.starts_with("--")
                .then(|| line.split_whitespace().next())
                .flatten()
        });
        let distances = known.map(|known| (distance(known, &self.option), known));
        let hint = match distances.min() {
            Some((0..=2, known)) => format!("did you mean {known}?"),
            _ => "try --help".to_owned(),
        };
        Stop::BadOption(format!("{} is not an option; {hint}", self.option))
    }

    /// A whole number within `range`.
    pub fn number<N>(&mut self, range: RangeInclusive<N>) -> Result<N, Stop>
    where
        N: FromStr + PartialOrd + Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(&expected, |text| {
            text.parse().ok().filter(|number| range.contains(number))
        })
    }

    /// A whole number of seconds within `range`.
    pub fn seconds(&mut self, range: RangeInclusive<u64>) -> Result<Duration, Stop> {
        let (start, end) = (range.start(), range.end());
        let expected = format!("a whole number of seconds from {start} to {end}");
        self.value(&expected, |text| {
            let seconds = text.parse().ok().filter(|seconds| range.contains(seconds));
            seconds.map(Duration::from_secs)
        })
    }

    /// A number of bytes within `range`, in bytes, KiB (K), MiB (M) or GiB (G).
    pub fn bytes(&mut self, range: RangeInclusive<usize>) -> Result<usize, Stop> {
        let (start, end) = (range.start(), range.end());
        let expected = format!("a number of bytes from {start} to {end}, such as 65536, 64K, 64M or 8G");
        self.value(&expected, |text| {
            let (digits, shift) = match text.as_bytes().last()? {
                b'K' => (&text[..text.len() - 1], 10),
                b'M' => (&text[..text.len() - 1], 20),
                b'G' => (&text[..text.len() - 1], 30),
                _ => (text, 0),
            };
            let number = digits.parse::<usize>().ok()?.checked_mul(1 << shift)?;
            range.contains(&number).then_some(number)
        })
    }

    /// An IP address.
    pub fn ip_address(&mut self) -> Result<IpAddr, Stop> {
        self.value("an IP address such as 127.0.0.1 or ::1", |text| text.parse().ok())
    }

    /// An IP address with a port.
    pub fn socket_address(&mut self) -> Result<SocketAddr, Stop> {
        let expected = "an IP address and a port, such as 127.0.0.1:7681 or [::1]:7681";
        self.value(expected, |text| text.parse().ok())
    }

    /// `*`, or an origin as browsers send it: a scheme and a host, perhaps a port, and no path.
    pub fn allow_origin(&mut self, origins: &mut AllowedOrigins) -> Result<(), Stop> {
        let expected = "an origin such as https://example.com:8080, or *";
        self.value(expected, |text| origins.allow(text).ok())
    }

    /// Any other value. `parse` returns `None` if the text is not what is `expected`.
    pub fn value<T>(&mut self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Stop> {
        let option = &self.option;
        let value = self.parser.value().unwrap_or_default();
        if value.is_empty() {
            return bad(format!("{option}: needs {expected}"));
        }
        match value.to_str().and_then(parse) {
            Some(value) => Ok(value),
            None => bad(format!("{option}: {} is not {expected}", shown(&value))),
        }
    }
}

fn bad<T>(error: String) -> Result<T, Stop> {
    Err(Stop::BadOption(error))
}

/// What `lexopt` refuses by itself: a value for an option that takes none.
fn describe(error: &lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedValue { option, value } => {
            let option = option.escape_debug();
            format!("{option}: takes no value, but {} was given", shown(value))
        }
        other => other.to_string(),
    }
}

/// A value in quotes, on one line. A long one is cut.
fn shown(value: &OsString) -> String {
    const SHOWN: usize = 60;
    let text: String = value.to_string_lossy().escape_debug().collect();
    match text.char_indices().nth(SHOWN) {
        None => format!("\"{text}\""),
        Some((end, _)) => format!("\"{}...\"", &text[..end]),
    }
}

/// How many characters must be inserted, removed or replaced to turn one text into the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, b) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options of a program, alone and in a group.
    #[derive(Debug, Default, PartialEq)]
    struct Few {
        port: Port,
        threads: usize,
        verbose: bool,
    }

    #[derive(Debug, Default, PartialEq)]
    struct Port(u16);

    impl Group for Port {
        fn help(&self) -> String {
            "  --port N               the port\n".to_owned()
        }

        fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<bool, Stop> {
            match name {
                "port" => self.0 = arguments.number(0..=u16::MAX)?,
                _ => return Ok(false),
            }
            Ok(true)
        }
    }

    impl Options for Few {
        const ABOUT: &str = "Does little.\n";
        const OWN: &str = "  --threads N            workers\n  --verbose              more\n";
        const EXIT_CODES: &str = "Exit codes: 0.\n";

        fn read(&mut self, name: &str, arguments: &mut Arguments) -> Result<(), Stop> {
            match name {
                "threads" => self.threads = arguments.number(1..=1024)?,
                "verbose" => self.verbose = true,
                _ => return Err(arguments.unknown()),
            }
            Ok(())
        }

        fn groups(&mut self) -> Vec<&mut dyn Group> {
            vec![&mut self.port]
        }
    }

    fn parse(words: &[&str]) -> Result<Few, Stop> {
        super::parse(&mut Arguments::new(
            &help::<Few>("few"),
            lexopt::Parser::from_args(words),
        ))
    }

    fn error(words: &[&str]) -> String {
        match parse(words) {
            Err(Stop::BadOption(error)) => error,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn the_help_text_lists_own_and_shared_options() {
        let expected = "\
Does little.

Usage: few [options]

  --threads N            workers
  --verbose              more

Options that the example servers share:

  --port N               the port
  --help                 this text

Exit codes: 0.
";
        assert_eq!(help::<Few>("few"), expected);
    }

    #[test]
    fn good_options_are_read_in_both_spellings() {
        let options = parse(&["--port=7", "--threads", "3", "--verbose"]).expect("good options");
        let expected = Few {
            port: Port(7),
            threads: 3,
            verbose: true,
        };
        assert_eq!(options, expected);
        assert_eq!(parse(&["--port=65535"]).expect("the largest").port.0, 65_535);
        assert!(matches!(parse(&["--help"]), Err(Stop::Help)));
        assert!(matches!(parse(&["-h"]), Err(Stop::Help)));
    }

    #[test]
    fn an_error_names_the_option_the_value_and_the_range() {
        for (value, shown) in [
            ("many", "\"many\""),
            ("0", "\"0\""),
            ("1025", "\"1025\""),
            ("-1", "\"-1\""),
            ("1.5", "\"1.5\""),
            (" 1", "\" 1\""),
            ("99999999999999999999999", "\"99999999999999999999999\""),
            ("a\nb", "\"a\\nb\""),
        ] {
            let expected = format!("--threads: {shown} is not a whole number from 1 to 1024");
            assert_eq!(error(&["--threads", value]), expected);
            assert_eq!(error(&[&format!("--threads={value}")]), expected);
        }
        let long = error(&["--threads", &"9".repeat(100_000)]);
        assert!(long.len() < 200 && long.contains("999...\" is not"), "{long}");
    }

    #[test]
    fn bytes_may_have_a_unit() {
        let bytes = |value: &str| {
            let mut arguments = Arguments::new("", lexopt::Parser::from_args(["--max-body", value]));
            arguments.next_name().expect("an option");
            arguments.bytes(1..=8 << 30)
        };
        let good = [("1", 1), ("64K", 64 << 10), ("64M", 64 << 20), ("8G", 8 << 30)];
        for (value, expected) in good {
            assert_eq!(bytes(value).expect(value), expected);
        }
        for value in [
            "0",
            "9G",
            "K",
            "1k",
            "1.5M",
            "-1K",
            "1KB",
            "99999999999999999999G",
            "1é",
        ] {
            let Err(Stop::BadOption(error)) = bytes(value) else {
                panic!("{value} is accepted");
            };
            assert!(
                error.contains(value) && error.contains("from 1 to 8589934592"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_missing_value_names_the_option() {
        let expected = "--port: needs a whole number from 0 to 65535";
        for words in [&["--port"][..], &["--port="], &["--port", ""]] {
            assert_eq!(error(words), expected);
        }
    }

    #[test]
    fn a_value_for_a_flag_is_an_error() {
        assert_eq!(
            error(&["--verbose=1"]),
            "--verbose: takes no value, but \"1\" was given"
        );
        assert_eq!(
            error(&["--help=1"]),
            "--help: takes no value, but \"1\" was given"
        );
    }

    #[test]
    fn an_unknown_option_names_the_nearest_one() {
        for (word, hint) in [
            ("--thread=3", "--thread is not an option; did you mean --threads?"),
            ("--prot", "--prot is not an option; did you mean --port?"),
            ("--colour", "--colour is not an option; try --help"),
            ("-x", "-x is not an option; try --help"),
            ("extra", "\"extra\" is not an option; try --help"),
        ] {
            assert_eq!(error(&[word]), hint);
        }
    }
}
