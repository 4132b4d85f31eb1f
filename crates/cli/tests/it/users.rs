//! Users and API tokens on the command line.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::warehouse::{Scratch, text};

const PASSWORD: &str = "kolme sanaa peräkkäin";

fn with_input(scratch: &Scratch, arguments: &[&str], input: &str) -> Output {
    let mut child = scratch
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that refuses its arguments reads nothing.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("the binary ends")
}

#[test]
fn a_user_is_added_gets_a_token_and_is_revoked_and_no_secret_is_kept() {
    let scratch = Scratch::new();
    let add = [
        "user",
        "add",
        "anni",
        "--role",
        "analyst",
        "--password-stdin",
    ];
    let mut said = Vec::new();
    let added = with_input(&scratch, &add, &format!("{PASSWORD}\n"));
    assert!(added.status.success(), "{}", text(&added));
    said.push(text(&added));
    let twice = with_input(&scratch, &add, PASSWORD);
    assert_eq!(twice.status.code(), Some(1), "{}", text(&twice));
    said.push(text(&twice));
    let token = scratch.run(&[
        "user",
        "token",
        "anni",
        "--days",
        "30",
        "--note",
        "night run",
    ]);
    let token = token.trim();
    let parts: Vec<&str> = token.split('_').collect();
    assert_eq!(
        (parts[0], parts[1].len(), parts[2].len()),
        ("tietopohja", 16, 64)
    );
    let listed = || -> Value {
        serde_json::from_str(&scratch.run(&["user", "list", "--json"])).expect("JSON")
    };
    let before = listed();
    assert_eq!(before[0]["role"], "analyst");
    assert_eq!(before[0]["tokens"][0]["note"], "night run");
    scratch.run(&["user", "revoke", parts[1]]);
    assert_eq!(listed()[0]["tokens"][0]["revoked"], true);
    assert_eq!(listed()[0]["disabled"], false);
    scratch.run(&["user", "revoke", "anni"]);
    assert_eq!(listed()[0]["disabled"], true);
    said.push(scratch.run(&["user", "list"]));
    said.push(std::fs::read_to_string(scratch.path().join("keys/users.toml")).expect("the list"));
    for text in said {
        assert!(
            !text.contains(PASSWORD) && !text.contains(parts[2]),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_done_is_told_with_the_next_step() {
    let scratch = Scratch::new();
    let cases: [(&[&str], &str, i32, &str); 5] = [
        (
            &["user", "add", "anni", "--role", "owner", "--password-stdin"],
            PASSWORD,
            2,
            "admin, analyst or reader",
        ),
        (
            &[
                "user",
                "add",
                "anni",
                "--role",
                "reader",
                "--password-stdin",
            ],
            "short",
            1,
            "at least 12",
        ),
        (
            &["user", "add", "anni", "--role", "reader"],
            PASSWORD,
            2,
            "--password-stdin",
        ),
        (&["user", "token", "anni"], "", 1, "user list"),
        (&["user", "revoke", "anni"], "", 1, "user list"),
    ];
    for (arguments, input, code, expected) in cases {
        let output = with_input(&scratch, arguments, input);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn a_server_with_users_does_not_start_without_any() {
    let scratch = Scratch::new();
    scratch.file(
        "tietopohja.toml",
        "[serve]\nflight = \"127.0.0.1:0\"\nauth = \"users\"\n",
    );
    let output = scratch
        .command(&["serve"])
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("tietopohja user add"),
        "{}",
        text(&output)
    );
}
