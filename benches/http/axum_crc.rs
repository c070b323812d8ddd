//! The peer of the example `http_crc`: `POST /crc` on axum, as its documentation advises.
//!
//! Started by `crc.py`: `axum_crc VARIANT`. It listens on a free port, which it prints.

use std::net::Ipv4Addr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;

const BODY_BYTES_MAX: usize = 64 << 20;

fn main() {
    let variant = std::env::args().nth(1).unwrap_or_default();
    let (runtime, router) = match variant.as_str() {
        // A thread for each core, and at most 2 threads for blocking work.
        "blocking2" => (
            build(Builder::new_multi_thread().max_blocking_threads(2)),
            blocking(),
        ),
        // The defaults: up to 512 threads for blocking work.
        "blocking" => (build(&mut Builder::new_multi_thread()), blocking()),
        // As many threads as `http_crc` has.
        "single2" => (
            build(Builder::new_current_thread().max_blocking_threads(2)),
            blocking(),
        ),
        // Hands nothing over: a long body keeps everybody waiting.
        "inline" => (build(&mut Builder::new_current_thread()), inline()),
        other => {
            eprintln!("axum_crc: {other:?} is none of blocking2, blocking, single2 and inline");
            std::process::exit(2);
        }
    };
    runtime.block_on(serve(router));
}

fn build(builder: &mut Builder) -> Runtime {
    builder.enable_all().build().expect("a runtime")
}

async fn serve(router: Router) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    println!("axum_crc listens on http://{address}/");
    let listener = listener.tap_io(|stream| {
        // Without it, an answer may wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
    });
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    axum::serve(listener, router)
        .await
        .expect("it serves until it is killed");
}

fn blocking() -> Router {
    Router::new().route("/crc", post(crc_blocking))
}

fn inline() -> Router {
    Router::new().route("/crc", post(async |body: Bytes| digits(&body)))
}

async fn crc_blocking(body: Bytes) -> Result<String, StatusCode> {
    spawn_blocking(move || digits(&body))
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

fn digits(body: &[u8]) -> String {
    format!("{:08x}\n", crc32fast::hash(body))
}
