//! The page's files, compiled in.

use std::collections::HashMap;

use examples::assets::Asset;

/// The files by their paths.
pub fn files() -> HashMap<&'static str, Asset> {
    HashMap::from([
        (
            "/",
            Asset::new("text/html; charset=utf-8", include_bytes!("page.html")),
        ),
        (
            "/page.css",
            Asset::new("text/css; charset=utf-8", include_bytes!("page.css")),
        ),
        (
            "/page.js",
            Asset::new("text/javascript; charset=utf-8", include_bytes!("page.js")),
        ),
        (
            "/favicon.svg",
            Asset::new("image/svg+xml", include_bytes!("../ws_stream/favicon.svg")),
        ),
    ])
}
