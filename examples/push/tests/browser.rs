//! The page in a real browser: two windows chat, one loses its connection, a node dies.
//! `examples/push/browser.sh` runs this, since Chromium is large.

mod support;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::cluster::{Balancer, Cluster, Redis, until};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// A Chromium without a screen, asked by its own protocol.
struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    id: u64,
    _profile: TempDir,
}

impl Browser {
    fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stderr(Stdio::piped())
            .spawn()
            .expect("chromium is there");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("DevTools listening on ")
                .map(str::to_owned)
        });
        let url = url.expect("it says where it listens");
        // It has more to say, and waits while nobody reads.
        std::thread::spawn(move || lines.for_each(drop));
        let address = url.split('/').nth(2).unwrap();
        let stream = support::connect(address.parse().unwrap());
        let (socket, _) = tungstenite::client(&url, stream).unwrap();
        Self {
            child,
            socket,
            id: 0,
            _profile: profile,
        }
    }

    /// Asks, and waits for the answer; what it says unasked is nothing to us.
    fn ask(&mut self, window: Option<&str>, method: &str, params: Value) -> Value {
        self.id += 1;
        let mut request = json!({"id": self.id, "method": method, "params": params});
        if let Some(window) = window {
            request["sessionId"] = window.into();
        }
        let request = Message::text(request.to_string());
        self.socket.send(request).unwrap();
        loop {
            if let Message::Text(text) = self.socket.read().unwrap() {
                let mut answer: Value = serde_json::from_str(&text).unwrap();
                if answer["id"] == self.id {
                    assert!(answer["error"].is_null(), "{method}: {answer}");
                    return answer["result"].take();
                }
            }
        }
    }

    fn open(&mut self, at: SocketAddr, name: &str) -> Window {
        let url = format!("http://{at}/?room=lobby&name={name}");
        let size = json!({"url": url, "width": 800, "height": 640, "newWindow": true});
        let target = self.ask(None, "Target.createTarget", size);
        let params = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.ask(None, "Target.attachToTarget", params);
        Window(attached["sessionId"].as_str().unwrap().to_owned())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of its windows.
struct Window(String);

impl Window {
    fn run(&self, browser: &mut Browser, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true});
        let mut result = browser.ask(Some(&self.0), "Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{script}: {result}");
        result["result"]["value"].take()
    }

    fn text(&self, browser: &mut Browser, id: &str) -> String {
        let script = format!("document.getElementById('{id}')?.innerText ?? ''");
        self.run(browser, &script).as_str().unwrap().to_owned()
    }

    fn say(&self, browser: &mut Browser, text: &str) {
        let script = format!(
            "document.getElementById('text').value = {}; \
             document.getElementById('say').requestSubmit()",
            json!(text)
        );
        self.run(browser, &script);
    }

    /// Waits until an element's text is what it must become.
    fn until(&self, browser: &mut Browser, id: &str, is: impl Fn(&str) -> bool) {
        until("the page shows it", || is(&self.text(browser, id)));
    }

    /// What was said, without the numbers.
    fn said(&self, browser: &mut Browser) -> Vec<String> {
        let script = "[...document.querySelectorAll('#log li')]\
            .filter(one => one.querySelector('.from'))\
            .map(one => one.innerText.replace(/^#\\d+\\s*/, ''))";
        let lines = self.run(browser, script);
        let lines = lines.as_array().unwrap().iter();
        lines
            .map(|one| one.as_str().unwrap().replace('\n', ""))
            .collect()
    }

    fn until_said(&self, browser: &mut Browser, expected: &[&str]) {
        until("all was said", || {
            self.said(browser).len() >= expected.len()
        });
        assert_eq!(self.said(browser), expected);
    }

    fn picture(&self, browser: &mut Browser, name: &str) {
        let Ok(folder) = std::env::var("CRORE_PUSH_PICTURES") else {
            return;
        };
        let params = json!({"format": "png"});
        let shot = browser.ask(Some(&self.0), "Page.captureScreenshot", params);
        let text = shot["data"].as_str().unwrap().as_bytes();
        let bytes = data_encoding::BASE64.decode(text).unwrap();
        std::fs::write(format!("{folder}/{name}.png"), bytes).unwrap();
    }
}

/// From now on the window's connections lead nowhere, as without a network.
const UNPLUG: &str = "window.Real ??= WebSocket; \
    WebSocket = class extends Real { constructor() { super('ws://127.0.0.1:1/'); } }; \
    document.getElementById('cut').click()";
const PLUG_IN: &str = "WebSocket = Real; undefined";

#[test]
#[ignore = "needs Chromium, Redis and haproxy: examples/push/browser.sh"]
fn two_windows_chat_whatever_happens() {
    let redis = Redis::durable();
    let buses = [redis.url(), redis.url(), redis.url()];
    let mut cluster = Cluster::start(&buses, &["--presence_ms", "3000"]);
    let balancer = Balancer::start(&cluster.nodes);
    let mut browser = Browser::start();
    let browser = &mut browser;
    let ann = browser.open(balancer.address, "ann");
    let bob = browser.open(balancer.address, "bob");
    for window in [&ann, &bob] {
        window.until(browser, "state", |text| text.starts_with("connected to n"));
        window.until(browser, "who", |text| {
            text.contains("ann") && text.contains("bob")
        });
    }
    ann.say(browser, "hello, <b>bob</b>");
    bob.until_said(browser, &["ann: hello, <b>bob</b>"]);
    bob.say(browser, "hello, ann");
    let mut said = vec!["ann: hello, <b>bob</b>", "bob: hello, ann"];
    ann.until_said(browser, &said);

    // Bob is without a network, does not know what is said, and speaks to nobody.
    bob.run(browser, UNPLUG);
    bob.until(browser, "state", |text| {
        text == "reconnecting" || text == "connecting"
    });
    ann.say(browser, "are you there?");
    ann.until_said(browser, &[&said[..], &["ann: are you there?"]].concat());
    bob.say(browser, "said while I was away");
    assert_eq!(bob.said(browser), said);
    bob.picture(browser, "push-away");
    bob.run(browser, PLUG_IN);
    said.extend(["ann: are you there?", "bob: said while I was away"]);
    for window in [&ann, &bob] {
        window.until_said(browser, &said);
    }

    // The node that Ann is at dies.
    let state = ann.text(browser, "state");
    let number: usize = state.trim_start_matches("connected to n").parse().unwrap();
    cluster.nodes[number].signal(libc::SIGKILL);
    cluster.nodes[number].wait();
    bob.until(browser, "state", |text| text.starts_with("connected to n"));
    bob.say(browser, "and now?");
    said.push("bob: and now?");
    ann.until_said(browser, &said);
    ann.until(browser, "state", |text| {
        text.starts_with("connected to n") && *text != state
    });
    ann.say(browser, "I am at another node");
    said.push("ann: I am at another node");
    for window in [&ann, &bob] {
        window.until_said(browser, &said);
        window.until(browser, "who", |text| {
            text.contains("ann") && text.contains("bob")
        });
    }
    // The Ann of the dead node is forgotten.
    ann.until(browser, "who", |text| text.lines().count() == 2);
    ann.picture(browser, "push-page");
}
