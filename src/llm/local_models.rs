//! Finds model servers on this machine, at their usual ports.

use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

/// The maximum duration of reading a list of models.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum size of a list of models.
const MAX_LIST_BYTES: usize = 1024 * 1024;
/// The maximum length of the name of a model.
const MAX_NAME_BYTES: usize = 256;
/// Parts of the names of models that answer no chat requests.
const OTHER_KINDS: [&str; 12] = [
    "embed",
    "rerank",
    "bge-",
    "minilm",
    "e5-",
    "gte-",
    "whisper",
    "tts",
    "clip",
    "moderation",
    "stable-diffusion",
    "flux",
];

/// A program that serves models on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalServer {
    /// The name of the program.
    pub program: &'static str,
    /// The name of its preset for `provider`, if it has one.
    pub provider: Option<&'static str>,
    /// The address of its API, which ends in `/v1`.
    pub base_url: String,
}

impl LocalServer {
    /// Returns the servers that are searched, at the ports that they use unless they are configured otherwise.
    pub fn usual() -> Vec<Self> {
        let server =
            |program, provider, port: u16| Self { program, provider, base_url: format!("http://127.0.0.1:{port}/v1") };
        vec![
            server("Ollama", Some("ollama"), 11434),
            server("llama.cpp", Some("llama.cpp"), 8080),
            server("LM Studio", None, 1234),
            server("vLLM", Some("vllm"), 8000),
        ]
    }
}

/// A server that was found, and its models for chats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundServer {
    /// The server.
    pub server: LocalServer,
    /// The names of its models, in the order of the server. There is at least one.
    pub models: Vec<String>,
}

/// Asks all servers at once for their models. Returns those that answer and have a model for chats, in the same order.
pub async fn find_local_models(servers: Vec<LocalServer>) -> Vec<FoundServer> {
    let client = reqwest::Client::builder().no_proxy().timeout(LIST_TIMEOUT).tls_certs_only([]);
    let client = client.redirect(reqwest::redirect::Policy::none()).build();
    let Ok(client) = client else { return Vec::new() };
    let found = join_all(servers.into_iter().map(async |server| {
        let models = list_models(&client, &server.base_url).await?;
        (!models.is_empty()).then_some(FoundServer { server, models })
    }));
    found.await.into_iter().flatten().collect()
}

/// Returns the models for chats in the list of an OpenAI-compatible server.
async fn list_models(client: &reqwest::Client, base_url: &str) -> Option<Vec<String>> {
    let mut response = client.get(format!("{base_url}/models")).send().await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_LIST_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    let list: Value = serde_json::from_slice(&body).ok()?;
    let names = list.get("data")?.as_array()?.iter().filter_map(|model| model.get("id")?.as_str());
    Some(names.filter(|name| is_chat_model(name)).map(str::to_owned).collect())
}

/// Returns whether a model answers chat requests, as far as its name shows it.
fn is_chat_model(name: &str) -> bool {
    let lower = name.to_lowercase();
    let is_usable = !name.trim().is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control);
    is_usable && !OTHER_KINDS.iter().any(|kind| lower.contains(kind))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    /// Starts a server that sends this response to each request.
    fn server(program: &'static str, response: Vec<u8>) -> LocalServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("bound"));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(&response);
                if response.is_empty() {
                    // Silent until the client has given up.
                    let _ = stream.read(&mut [0; 1]);
                }
            }
        });
        LocalServer { program, provider: None, base_url }
    }

    fn response(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn models(names: &[&str]) -> Vec<u8> {
        let data: Vec<Value> = names.iter().map(|name| json!({"id": name, "object": "model"})).collect();
        response("200 OK", &json!({"object": "list", "data": data}).to_string())
    }

    #[tokio::test]
    async fn servers_with_chat_models_are_found_in_order() {
        let servers = vec![
            server("one", models(&["nomic-embed-text:latest", "qwen3:8b", "llama3.2:3b"])),
            server("only embeddings", models(&["text-embedding-3-small", "bge-m3"])),
            server("two", models(&["mistral-small"])),
        ];
        let found = find_local_models(servers).await;
        let found: Vec<_> = found.iter().map(|found| (found.server.program, found.models.join(" "))).collect();
        assert_eq!(found, [("one", "qwen3:8b llama3.2:3b".to_owned()), ("two", "mistral-small".to_owned())]);
    }

    #[tokio::test]
    async fn other_servers_are_ignored() {
        // Without a length, the body would be read for as long as the server sends.
        let mut endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"data\": [".to_vec();
        endless.extend(std::iter::repeat_n(b' ', MAX_LIST_BYTES + 1));
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let servers = vec![
            server("page", response("200 OK", "<html>hello</html>")),
            server("error", response("401 Unauthorized", "{\"data\": [{\"id\": \"m\"}]}")),
            server("redirect", response("302 Found\r\nLocation: http://127.0.0.1:1/", "")),
            server("other list", response("200 OK", "{\"data\": [{\"name\": \"m\"}, 3, {\"id\": \"\\u001b[2J\"}]}")),
            server("endless", endless),
            server("silent", Vec::new()),
            LocalServer { program: "closed", provider: None, base_url: format!("http://{closed}/v1") },
        ];
        assert_eq!(find_local_models(servers).await, []);
    }

    #[test]
    fn usual_ports_are_those_of_the_programs() {
        let usual: Vec<_> = LocalServer::usual().into_iter().map(|server| (server.program, server.base_url)).collect();
        let address = |port: &str| format!("http://127.0.0.1:{port}/v1");
        let expected = [("Ollama", "11434"), ("llama.cpp", "8080"), ("LM Studio", "1234"), ("vLLM", "8000")];
        assert_eq!(usual, expected.map(|(program, port)| (program, address(port))));
    }
}
