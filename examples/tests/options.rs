//! The command lines of the examples: help texts, errors and exit codes.

#[path = "util/server.rs"]
mod server;

use std::ffi::OsStr;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use server::{Server, path_of};

/// Runs a program that has to end by itself; `timeout` kills it if it does not.
fn run(example: &str, arguments: &[impl AsRef<OsStr>]) -> Output {
    Command::new("timeout")
        .arg("30")
        .arg(path_of(example))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("`cargo test` has built the examples")
}

/// Runs `example`, which must fail with `code` and one line on stderr that holds all of `parts`.
fn expect_error(example: &str, arguments: &[impl AsRef<OsStr>], code: i32, parts: &[&str]) {
    let output = run(example, arguments);
    let stderr = String::from_utf8(output.stderr).expect("the error is UTF-8");
    print!("{stderr}");
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with(&format!("{example}: ")), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
}

/// Every option that takes a number, with its range.
const NUMBERS: [(&str, &str, u64, u64); 38] = [
    ("http_crc", "--port", 0, 65_535),
    ("http_crc", "--threads", 1, 1024),
    ("http_crc", "--max-queue-depth", 1, 1_000_000),
    ("http_crc", "--max-connections", 1, 1_000_000),
    ("http_crc", "--work-ms", 0, 60_000),
    ("http_crc", "--idle-timeout", 1, 86_400),
    ("http_crc", "--grace", 0, 3600),
    ("http_delegate", "--port", 0, 65_535),
    ("http_delegate", "--threads", 0, 1024),
    ("http_delegate", "--loops", 1, 256),
    ("http_delegate", "--request-timeout", 1, 86_400),
    ("http_delegate", "--stream-timeout", 0, 86_400),
    ("http_delegate", "--max-queue-depth", 1, 1_000_000),
    ("http_delegate", "--max-connections", 1, 1_000_000),
    ("http_delegate", "--idle-timeout", 1, 86_400),
    ("http_delegate", "--grace", 0, 3600),
    ("ws_stream", "--port", 0, 65_535),
    ("ws_stream", "--threads", 1, 1024),
    ("ws_stream", "--max-queue-depth", 1, 1_000_000),
    ("ws_stream", "--max-connections", 1, 1_000_000),
    ("ws_stream", "--idle-timeout", 1, 86_400),
    ("ws_stream", "--grace", 0, 3600),
    ("ws_push", "--port", 0, 65_535),
    ("ws_push", "--interval", 1, 3_600_000),
    ("ws_push", "--queue-bytes", 1024, 1 << 30),
    ("ws_push", "--max-message", 1, 64 << 20),
    ("ws_push", "--mailbox-capacity", 1, 1_000_000),
    ("ws_push", "--max-connections", 1, 1_000_000),
    ("ws_push", "--idle-timeout", 1, 86_400),
    ("ws_push", "--report", 1, 3600),
    ("ws_push", "--grace", 0, 3600),
    ("ws_load", "--clients", 1, 1_000_000),
    ("ws_load", "--seconds", 1, 604_800),
    ("ws_load", "--size", 8, 4 << 20),
    ("stress", "--seconds", 1, 604_800),
    ("stress", "--seed", 0, u64::MAX),
    ("stress", "--threads", 1, 1024),
    ("stress", "--services", 1, 1024),
];

#[test]
fn a_bad_number_is_exit_code_2_with_option_value_and_range() {
    for (example, option, least, most) in NUMBERS {
        let range = format!("from {least} to {most}");
        let beyond = (u128::from(most) + 1).to_string();
        for value in [
            "many",
            "-1",
            "1.5",
            "0x10",
            "",
            "99999999999999999999999999",
            &beyond,
        ] {
            let shown = if value.is_empty() {
                "needs".to_owned()
            } else {
                format!("{value:?}")
            };
            let parts = [&format!("{option}: ")[..], &shown, &range];
            expect_error(example, &[&format!("{option}={value}")], 2, &parts);
        }
        expect_error(example, &[option], 2, &[&format!("{option}: needs"), &range]);
    }
    expect_error(
        "ws_stream",
        &["--threads", "100000"],
        2,
        &["\"100000\" is not", "from 1 to 1024"],
    );
    expect_error(
        "ws_stream",
        &["--port=70000"],
        2,
        &["--port: \"70000\"", "from 0 to 65535"],
    );
    expect_error(
        "ws_load",
        &["--size=7"],
        2,
        &["--size: \"7\"", "from 8 to 4194304"],
    );
}

#[test]
fn other_bad_values_are_exit_code_2_and_name_what_is_expected() {
    for bind in ["localhost", "127.0.0.1:80", "256.0.0.1", ""] {
        expect_error(
            "ws_stream",
            &[&format!("--bind={bind}")],
            2,
            &["--bind: ", "an IP address"],
        );
    }
    for policy in ["newest", "drop", "Latest", ""] {
        let argument = format!("--slow={policy}");
        let expected = "drop-oldest, latest or disconnect";
        expect_error("ws_push", &[&argument], 2, &["--slow: ", expected]);
    }
    for addr in ["127.0.0.1", "127.0.0.1:70000", "localhost:80", ""] {
        expect_error(
            "ws_load",
            &[&format!("--addr={addr}")],
            2,
            &["--addr: ", "an IP address and a port"],
        );
    }
    for origin in [
        "example.com",
        "https://",
        "://a",
        "https://a/path",
        "https://a b",
        "https://a,https://b",
        "",
    ] {
        let argument = format!("--allow-origin={origin}");
        expect_error(
            "ws_stream",
            &[&argument],
            2,
            &["--allow-origin: ", "such as https://example.com"],
        );
    }
}

#[test]
fn unknown_options_and_stray_words_are_exit_code_2() {
    for (example, near, hint) in [
        (
            "ws_stream",
            "--thread=4",
            "--thread is not an option; did you mean --threads?",
        ),
        (
            "ws_push",
            "--intervall",
            "--intervall is not an option; did you mean --interval?",
        ),
        (
            "ws_load",
            "--client",
            "--client is not an option; did you mean --clients?",
        ),
        (
            "stress",
            "--seeds",
            "--seeds is not an option; did you mean --seed?",
        ),
        ("stress", "--verbose", "--verbose is not an option; try --help"),
    ] {
        expect_error(example, &[near], 2, &[hint]);
        expect_error(example, &["7681"], 2, &["\"7681\" is not an option; try --help"]);
        expect_error(example, &["-p", "1"], 2, &["-p is not an option; try --help"]);
        expect_error(
            example,
            &["--help=x"],
            2,
            &["--help: takes no value, but \"x\" was given"],
        );
    }
    let flag = "--trust-proxy: takes no value, but \"yes\" was given";
    expect_error("ws_stream", &["--trust-proxy=yes"], 2, &[flag]);
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf_8_are_exit_code_2() {
    use std::os::unix::ffi::OsStrExt;
    for (example, option) in [
        ("http_crc", "port"),
        ("ws_stream", "port"),
        ("ws_load", "addr"),
        ("stress", "seed"),
    ] {
        let value = OsStr::from_bytes(b"\xFF\n1");
        let long = format!("--{option}");
        expect_error(example, &[OsStr::new(&long), value], 2, &[&long, "\\n1\" is not"]);
        expect_error(example, &[value], 2, &["is not an option; try --help"]);
        expect_error(
            example,
            &[OsStr::from_bytes(b"--\xFF\n")],
            2,
            &["is not an option; try --help"],
        );
    }
}

#[test]
fn the_help_text_has_ranges_defaults_and_exit_codes() {
    for example in [
        "http_crc",
        "http_delegate",
        "ws_stream",
        "ws_push",
        "ws_load",
        "stress",
    ] {
        for option in ["--help", "-h"] {
            let output = run(example, &[option]);
            let help = String::from_utf8(output.stdout).expect("text");
            assert_eq!((output.status.code(), &*output.stderr), (Some(0), &[][..]));
            for part in ["Exit codes: 0 ", "1 ", "2 for bad options"] {
                assert!(help.contains(part), "{part:?} in {help}");
            }
            for (_, option, least, most) in NUMBERS.iter().filter(|(of, ..)| *of == example) {
                let (_, text) = help.split_once(&format!("  {option} ")).expect("it is listed");
                let text = text.split("\n  --").next().unwrap_or_default();
                assert!(text.contains(&format!("{least} to {most}")), "{option} in {help}");
                assert!(text.contains('['), "the default of {option} in {help}");
            }
        }
    }
}

#[test]
fn the_longest_body_has_a_unit() {
    for value in ["0", "many", "2048G", "64MB"] {
        let shown = format!("\"{value}\" is not a number of bytes from 1 to 1099511627776");
        expect_error("http_crc", &["--max-body", value], 2, &["--max-body", &shown]);
    }
    let server = Server::start("http_crc", &["--max-body=8G"]);
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn allow_origin_trust_proxy_and_grace_are_accepted() {
    let server = Server::start(
        "ws_stream",
        &[
            "--allow-origin=https://example.com:8080",
            "--allow-origin",
            "*",
            "--trust-proxy",
            "--grace=0",
        ],
    );
    assert_eq!(server.get("/").status, 200);
}

/// A closed port: bound and released, so nobody listens there.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

#[test]
fn a_refused_connection_is_exit_code_1_and_names_the_address() {
    let address = format!("127.0.0.1:{}", closed_port());
    let error = format!("ws_load: cannot connect to {address}: Connection refused");
    expect_error("ws_load", &["--addr", &address], 1, &[&error]);
}

#[test]
fn a_port_in_use_is_exit_code_1_and_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let error = format!("ws_stream: cannot listen on {address}: Address already in use");
    expect_error(
        "ws_stream",
        &[&format!("--port={}", address.port())],
        1,
        &[&error],
    );
}
