//! A page on a port of its own, as browsers get it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use crate::port::Port;

/// Serves one document, whatever is asked for. `localhost` is a secure context, so pages may use all of the web's
/// cryptography without TLS.
#[derive(Debug)]
pub struct Page {
    port: Port,
    listener: TcpListener,
}

impl Page {
    /// Takes a port, and serves nothing yet.
    pub fn prepare() -> Self {
        let port = Port::lease();
        let listener = TcpListener::bind(port.address()).unwrap();
        Self { port, listener }
    }

    /// Its origin.
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.port.number())
    }

    /// Serves the document until this process ends.
    pub fn serve(&self, document: &str) {
        let listener = self.listener.try_clone().unwrap();
        let document: Arc<str> = document.into();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let document = document.clone();
                // A browser opens connections ahead of what it asks for: each waits on its own.
                thread::spawn(move || answer(stream, &document));
            }
        });
    }
}

fn answer(mut stream: TcpStream, document: &str) {
    let mut head = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::from("the first");
    // Up to the empty line: a socket that is closed with unread bytes is reset.
    while line.len() > 2 {
        line.clear();
        if !head.read_line(&mut line).is_ok_and(|length| length > 0) {
            return;
        }
    }
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{document}",
        document.len()
    );
}
