//! Chromium without a window, told what to do through a pipe (the DevTools protocol: messages of JSON, each with a 0 behind).

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// Names that it goes by.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// Of the page.
    session: String,
    messages: u64,
    _profile: TempDir,
}

/// The browser's program, if there is one.
pub fn find() -> Option<&'static str> {
    NAMES.into_iter().find(|name| {
        let output = Command::new(name).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    })
}

impl Browser {
    /// Starts it with an empty page.
    pub fn start(program: &str) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        // It reads from descriptor 3 and writes to 4.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
            ])
            .arg(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-dev-shm-usage"])
            .args(["--hide-scrollbars", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{program} could not be started"))?;
        let to = child.stdin.take().context("no pipe")?;
        let from = BufReader::new(child.stdout.take().context("no pipe")?);
        let mut browser = Self {
            child,
            to,
            from,
            session: String::new(),
            messages: 0,
            _profile: profile,
        };
        let made = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let target = made["targetId"].clone();
        let words = json!({ "targetId": target, "flatten": true });
        let attached = browser.call("Target.attachToTarget", words)?;
        attached["sessionId"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut browser.session);
        browser.call("Page.enable", json!({}))?;
        Ok(browser)
    }

    fn read(&mut self) -> Result<Value> {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes)?;
        if bytes.pop() != Some(0) {
            bail!("the browser has ended");
        }
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Calls a method of the protocol; its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.messages += 1;
        let number = self.messages;
        let mut message = json!({ "id": number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.to.write_all(&bytes)?;
        loop {
            let mut answer = self.read()?;
            if answer["id"] != json!(number) {
                continue;
            }
            if !answer["error"].is_null() {
                bail!("{method}: {}", answer["error"]);
            }
            return Ok(answer["result"].take());
        }
    }

    /// Opens a file, and waits until all of it is there.
    pub fn open(&mut self, file: &Path) -> Result<()> {
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", json!({ "url": url }))?;
        loop {
            if self.read()?["method"] == json!("Page.loadEventFired") {
                return Ok(());
            }
        }
    }

    /// What an expression gives.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let words = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", words)?;
        if !answer["exceptionDetails"].is_null() {
            bail!(
                "{expression}: {}",
                answer["exceptionDetails"]["exception"]["description"]
            );
        }
        Ok(answer["result"]["value"].take())
    }

    /// Presses and releases a key, as a person does: by its name, and its code for a key that gives no letter.
    pub fn press(&mut self, key: &str, code: u32) -> Result<()> {
        for kind in ["rawKeyDown", "keyUp"] {
            let words =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", words)?;
        }
        Ok(())
    }

    /// Types text into what has the focus.
    pub fn enter(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", json!({ "text": text }))?;
        Ok(())
    }

    /// Gives the page this width.
    pub fn set_width(&mut self, width: u32) -> Result<()> {
        let words =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", words)?;
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with its pipe, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
