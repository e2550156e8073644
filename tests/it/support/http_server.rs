//! An HTTP server whose responses a test decides.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request that the server received.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReceivedRequest {
    pub(crate) method: String,
    /// The path with the query.
    pub(crate) path: String,
    /// The headers by their lowercase names.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

/// A response: the status line without the version, further header lines, and the body.
pub(crate) struct Reply {
    pub(crate) status: &'static str,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// True if the connection stays open after the body, whose announced length is larger.
    pub(crate) hangs: bool,
}

impl Reply {
    pub(crate) fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), hangs: false }
    }

    pub(crate) fn json(body: &serde_json::Value) -> Self {
        Self::new("200 OK", body.to_string()).with_header("content-type: application/json")
    }

    pub(crate) fn redirect(status: &'static str, location: &str) -> Self {
        Self::new(status, "").with_header(&format!("location: {location}"))
    }

    pub(crate) fn with_header(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }
}

/// A running server. It serves any number of connections until the test ends.
pub(crate) struct HttpServer {
    pub(crate) port: u16,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl HttpServer {
    /// Starts a server that answers each request with `respond`, which also gets the number of earlier requests.
    pub(crate) fn start(respond: impl Fn(&ReceivedRequest, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (log, respond) = (Arc::clone(&received), Arc::new(respond));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, respond) = (Arc::clone(&log), Arc::clone(&respond));
                std::thread::spawn(move || {
                    let Some(request) = read_request(&stream) else { return };
                    let number = {
                        let mut log = log.lock().expect("no panic");
                        log.push(request.clone());
                        log.len() - 1
                    };
                    send_reply(stream, &respond(&request, number));
                });
            }
        });
        Self { port, received }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the requests so far, in order.
    pub(crate) fn received(&self) -> Vec<ReceivedRequest> {
        self.received.lock().expect("no panic").clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<ReceivedRequest> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(ReceivedRequest { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn send_reply(mut stream: TcpStream, reply: &Reply) {
    let length = reply.body.len() + usize::from(reply.hangs);
    let mut head = format!("HTTP/1.1 {}\r\ncontent-length: {length}\r\nconnection: close\r\n", reply.status);
    for header in &reply.headers {
        head += &format!("{header}\r\n");
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&reply.body);
    if reply.hangs {
        // Until the client closes the connection.
        let _ = stream.read(&mut [0]);
    }
}
