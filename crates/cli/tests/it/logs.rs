//! The log of a server: lines for people, or objects for programs.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::warehouse::Scratch;

#[test]
fn the_log_is_lines_of_text_or_of_json() {
    let scratch = Scratch::new();
    for format in ["text", "json"] {
        let serve = ["serve", "--flight", "127.0.0.1:0", "--log", "info"];
        let mut server = scratch
            .command(&serve)
            .args(["--log-format", format])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let lines = BufReader::new(server.stderr.take().expect("its errors")).lines();
        let opened = lines
            .map_while(Result::ok)
            .find(|line| line.contains("flight door open"));
        server.kill().expect("the server runs");
        server.wait().expect("the server ends");
        let opened = opened.expect("the door opens");
        match serde_json::from_str::<Value>(&opened) {
            Ok(line) => {
                assert_eq!(format, "json", "{line}");
                assert_eq!(line["level"], "INFO");
                assert_eq!(line["message"], "flight door open");
                assert_eq!(line["role"], "reader");
                assert!(line["timestamp"].is_string() && line["target"].is_string());
            }
            Err(_) => assert_eq!(format, "text", "{opened}"),
        }
    }
}
