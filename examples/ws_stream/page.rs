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
        ("/dom.js", Asset::new(SCRIPT, include_bytes!("dom.js"))),
        ("/pool.js", Asset::new(SCRIPT, include_bytes!("pool.js"))),
        ("/server.js", Asset::new(SCRIPT, include_bytes!("server.js"))),
        ("/sockets.js", Asset::new(SCRIPT, include_bytes!("sockets.js"))),
        ("/tiles.js", Asset::new(SCRIPT, include_bytes!("tiles.js"))),
        ("/view.js", Asset::new(SCRIPT, include_bytes!("view.js"))),
        ("/favicon.svg", Asset::new(SVG, include_bytes!("favicon.svg"))),
    ])
}
