//! Chromium without a screen, driven by its `DevTools` protocol: a page does what a user's browser does.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    directory::Directory,
    process::{Process, command},
    program::Program,
    socket::{RawSocket, Received},
    wait::{SOON, until},
};

/// How long it may take to start, and a page to come: a second where nothing else runs.
const START: Duration = Duration::from_secs(60);

/// A browser with one page.
#[derive(Debug)]
pub struct Chromium {
    devtools: RawSocket,
    /// The page, as `DevTools` calls it.
    page: String,
    calls: u64,
    _process: Process,
    _profile: Directory,
}

impl Chromium {
    /// Starts one with an empty profile, and opens a page. It takes any certificate: who must see that one is good asks
    /// curl.
    pub fn open(url: &str) -> Self {
        let profile = Directory::make();
        let mut program = command(Program::Chromium.expect());
        program
            .args(["--headless", "--no-sandbox", "--no-first-run"])
            .args(["--disable-gpu", "--disable-dev-shm-usage"])
            .args([
                "--disable-background-networking",
                "--ignore-certificate-errors",
            ])
            .args(["--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()));
        let mut process = Process::start("chromium", &mut program);
        let line = process.line("DevTools listening on ws://", START).text;
        let address = line.split("ws://").nth(1).unwrap();
        let (address, path) = address.split_once('/').unwrap();
        let mut chromium = Self {
            devtools: RawSocket::open(address.parse().unwrap(), &format!("/{path}")),
            page: String::new(),
            calls: 0,
            _process: process,
            _profile: profile,
        };
        let target = chromium.call("Target.createTarget", &json!({"url": url}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = chromium.call("Target.attachToTarget", &attach);
        session["sessionId"]
            .as_str()
            .unwrap()
            .clone_into(&mut chromium.page);
        chromium
    }

    /// What an expression of JavaScript is in the page now, if it is something and throws nothing.
    pub fn evaluate(&mut self, expression: &str) -> Option<Value> {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.try_call("Runtime.evaluate", &asked).ok()?;
        let is_there = answer.get("exceptionDetails").is_none();
        let value = answer["result"]
            .get("value")
            .filter(|value| !value.is_null());
        value.filter(|_| is_there).cloned()
    }

    /// Awaits that an expression of JavaScript is something other than null, undefined, false and an empty text. A page
    /// that is still to come is awaited too.
    pub fn awaits(&mut self, expression: &str) -> Value {
        until(expression, START, || {
            let is_something = |value: &Value| *value != json!(false) && *value != json!("");
            self.evaluate(expression).filter(is_something)
        })
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.try_call(method, parameters)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The result of a call, or what was wrong with it, as where the page changes meanwhile.
    fn try_call(&mut self, method: &str, parameters: &Value) -> Result<Value, Value> {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": parameters});
        if !self.page.is_empty() {
            call["sessionId"] = json!(self.page);
        }
        self.devtools
            .send_frame(&crate::frame::Frame::text(call.to_string()));
        loop {
            // Events come in between.
            let mut said = match self.devtools.receive(START) {
                Received::Frame(frame) => serde_json::from_slice::<Value>(&frame.payload).unwrap(),
                other => panic!("{method}: Chromium did not answer, but {other:?}"),
            };
            if said["id"] == json!(self.calls) {
                return match said.get_mut("error") {
                    Some(error) => Err(error.take()),
                    None => Ok(said["result"].take()),
                };
            }
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The processes that it starts have groups of their own, and leave with it where it leaves in order.
        self.page.clear();
        self.calls += 1;
        let close = json!({"id": self.calls, "method": "Browser.close"}).to_string();
        if self
            .devtools
            .try_send(crate::frame::Frame::text(close).encode())
            .is_ok()
        {
            while matches!(self.devtools.receive(SOON), Received::Frame(_)) {}
        }
    }
}
