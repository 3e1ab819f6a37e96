//! A server that answers what it is told to, in order: HTTP/1.1, one request a connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::plane::{Ran, tidegate};

/// A server of so many answers.
pub(crate) struct Fake {
    pub(crate) server: String,
    /// The requests' heads.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Answers: the status line's end, further header lines, the body. The last one is repeated.
    pub(crate) fn new(answers: Vec<(&str, &str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&asked);
        let answers: Vec<String> = answers
            .into_iter()
            .map(|(status, headers, body)| {
                let length = body.len();
                format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}")
            })
            .collect();
        // Ends with the process: nothing waits for it.
        std::thread::spawn(move || {
            for (nth, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { return };
                heads.lock().unwrap().push(head(&mut stream));
                let answer = &answers[nth.min(answers.len() - 1)];
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { server, asked }
    }

    /// Runs the binary against it.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = tidegate(args);
        command
            .env("TIDEGATE_SERVER", &self.server)
            .env("TIDEGATE_TOKEN", "tga_fake");
        Ran::of(command.output().unwrap())
    }
}

/// Reads a request to its end; what stands before its body.
fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    drop(stream.read_exact(&mut body));
    head
}
