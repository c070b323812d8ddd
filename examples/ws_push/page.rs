//! The page's files, compiled in.

use std::collections::HashMap;

use examples::assets::Asset;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The files by their paths.
pub fn files() -> HashMap<&'static str, Asset> {
    HashMap::from([
        ("/", Asset::new(HTML, include_bytes!("page.html"))),
        ("/page.css", Asset::new(CSS, include_bytes!("page.css"))),
        ("/page.js", Asset::new(SCRIPT, include_bytes!("page.js"))),
        ("/chart.js", Asset::new(SCRIPT, include_bytes!("chart.js"))),
        ("/clients.js", Asset::new(SCRIPT, include_bytes!("clients.js"))),
        ("/live.js", Asset::new(SCRIPT, include_bytes!("live.js"))),
        ("/favicon.svg", Asset::new(SVG, include_bytes!("favicon.svg"))),
    ])
}
