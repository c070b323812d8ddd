//! The page of an example: its own files, and those that all pages share, compiled in.
//!
//! `page.html` is completed once, when the server starts: a line such as `<!-- head.html -->`
//! stands for the part with this name, which is in the folder `page` beside this file.

use std::collections::HashMap;

use bytes::Bytes;

use crate::assets::Asset;
use crate::http::{Request, Response, Route};

/// Files of all pages. A page loads those that it needs.
const SHARED: &[(&str, &[u8])] = &[
    ("base.css", include_bytes!("page/base.css")),
    ("chart.js", include_bytes!("page/chart.js")),
    ("dom.js", include_bytes!("page/dom.js")),
    ("favicon.svg", include_bytes!("page/favicon.svg")),
    ("poll.js", include_bytes!("page/poll.js")),
    ("pool.js", include_bytes!("page/pool.js")),
    ("reconnect.js", include_bytes!("page/reconnect.js")),
    ("server.js", include_bytes!("page/server.js")),
];

/// Parts of a `page.html`.
const PARTS: &[(&str, &str)] = &[
    ("head.html", include_str!("page/head.html")),
    ("pool.html", include_str!("page/pool.html")),
    ("tasks.html", include_str!("page/tasks.html")),
    ("top.html", include_str!("page/top.html")),
];

/// A [`Page`] of the files with these names, which are beside the file that contains the call.
#[macro_export]
macro_rules! page {
    ($($name:literal),+ $(,)?) => {
        $crate::page::Page::new(&[$(($name, include_bytes!($name))),+])
    };
}

/// The files of a page by their names. That of `/` is empty.
#[derive(Debug)]
pub struct Page(HashMap<&'static str, Asset>);

impl Page {
    /// A page with these files, of which `page.html` becomes `/`.
    ///
    /// # Panics
    ///
    /// If the ending of a name has no media type here, or if `page.html` is not UTF-8 or names a
    /// part that does not exist.
    pub fn new(own: &[(&'static str, &'static [u8])]) -> Self {
        let files = SHARED.iter().chain(own).map(|&(name, bytes)| match name {
            "page.html" => ("", Asset::new(media_type(name), complete(bytes))),
            _ => (name, Asset::new(media_type(name), Bytes::from_static(bytes))),
        });
        Self(files.collect())
    }

    /// GET, if the page has a file of this path.
    pub fn route(&self, path: &str) -> Option<Route> {
        self.file(path).map(|_| Route::get())
    }

    /// The file that is asked for, if the page has it.
    pub fn answer(&self, request: &Request) -> Option<Response> {
        self.file(request.path()).map(|file| file.answer(request))
    }

    fn file(&self, path: &str) -> Option<&Asset> {
        self.0.get(path.strip_prefix('/')?)
    }
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => panic!("{name} has an ending without a media type; add it to `media_type` of `examples::page`"),
    }
}

/// Puts the shared parts into a `page.html`.
fn complete(html: &[u8]) -> Bytes {
    let html = str::from_utf8(html).expect("page.html is UTF-8").to_owned();
    let completed = PARTS.iter().fold(html, |html, (name, part)| {
        html.replace(&format!("<!-- {name} -->\n"), part)
    });
    let rest = completed.lines().find(|line| line.ends_with(".html -->"));
    assert!(
        rest.is_none(),
        "page.html: {rest:?} is no part of `examples::page`"
    );
    completed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_html_gets_the_shared_parts() {
        let html = complete(b"<!-- head.html -->\n<title>x</title>\n<!-- a comment -->\n");
        let html = str::from_utf8(&html).expect("text");
        assert!(html.starts_with("<!doctype html>\n"), "{html}");
        assert!(
            html.ends_with("\n<title>x</title>\n<!-- a comment -->\n"),
            "{html}"
        );
    }

    #[test]
    #[should_panic(expected = "<!-- foot.html -->")]
    fn an_unknown_part_is_an_error() {
        complete(b"<!-- head.html -->\n<!-- foot.html -->\n");
    }

    #[test]
    fn only_the_files_of_a_page_have_a_route() {
        let page = Page::new(&[("page.html", b"own"), ("page.js", b"own")]);
        for path in ["/", "/page.js", "/base.css"] {
            assert!(page.route(path).is_some(), "{path}");
        }
        for path in ["", "//", "/page.html", "/head.html", "page.js"] {
            assert!(page.route(path).is_none(), "{path}");
        }
    }
}
