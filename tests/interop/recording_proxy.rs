//! A TCP proxy that records what is sent to a server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A proxy in front of a server, until its runtime ends.
pub(crate) struct RecordingProxy {
    /// The address of the proxy.
    pub(crate) address: SocketAddr,
    /// All data that was sent to the server, one entry for each connection.
    sent_bytes: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RecordingProxy {
    /// Starts a proxy for the server at `server` on the current runtime.
    pub(crate) async fn start(server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, sent_bytes) = (listener.local_addr()?, Arc::default());
        tokio::spawn(forward(listener, server, Arc::clone(&sent_bytes)));
        Ok(Self { address, sent_bytes })
    }

    /// Returns how often `text` was sent to the server.
    pub(crate) fn count_sent(&self, text: &str) -> usize {
        let sent = self.sent_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter().map(|bytes| String::from_utf8_lossy(bytes).matches(text).count()).sum()
    }
}

async fn forward(listener: TcpListener, server: SocketAddr, sent: Arc<Mutex<Vec<Vec<u8>>>>) {
    while let Ok((client, _)) = listener.accept().await {
        let sent = Arc::clone(&sent);
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            let ((mut client_read, mut client_write), (mut server_read, mut server_write)) =
                (client.into_split(), server.into_split());
            let connection = {
                let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
                sent.push(Vec::new());
                sent.len() - 1
            };
            let requests = async {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(size @ 1..) = client_read.read(&mut buffer).await {
                    sent.lock().unwrap_or_else(PoisonError::into_inner)[connection].extend_from_slice(&buffer[..size]);
                    if server_write.write_all(&buffer[..size]).await.is_err() {
                        break;
                    }
                }
            };
            // When the client disconnects, the connection to the server is closed too.
            tokio::select! {
                () = requests => {}
                _ = tokio::io::copy(&mut server_read, &mut client_write) => {}
            }
        });
    }
}
