//! A small HTTP client for measuring the control plane: one connection, one request after another, no pool.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Whom to ask, with which token.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    token: String,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    client: Client,
}

impl Client {
    /// A client of the server at `address`.
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self {
            address,
            token: token.to_owned(),
        }
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self::new(self.address, token)
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            client: self.clone(),
        })
    }

    /// Opens a stream of answers, waits for its first bytes, and reads it to its end in the background.
    pub async fn read_stream(self, path: &str, body: Value) -> Result<()> {
        let mut connection = self.connect().await?;
        let response = connection.send(Method::POST, path, Some(&body)).await?;
        ensure!(response.status().is_success(), "{path}: {}", response.status());
        let mut body = response.into_body();
        body.frame().await.context("the stream ended at once")??;
        tokio::spawn(async move {
            // The connection lives as long as its stream is read.
            let _connection = connection;
            while let Some(Ok(_)) = body.frame().await {}
        });
        Ok(())
    }
}

impl Connection {
    /// Status and JSON of an answer.
    pub async fn get(&mut self, path: &str) -> Result<(u16, Value)> {
        self.ask(Method::GET, path, None).await
    }

    /// Status and JSON of the answer to a JSON body.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<(u16, Value)> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Status and length in bytes of a page of the web UI, for whom this cookie says.
    pub async fn page(&mut self, path: &str, cookie: &str) -> Result<(u16, usize)> {
        let request = Request::get(path)
            .header(HOST, self.client.address.to_string())
            .header(COOKIE, cookie)
            .body(Full::default())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes().len()))
    }

    async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let response = self.send(method, path, body).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<hyper::Response<hyper::body::Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.client.address.to_string())
            .header(AUTHORIZATION, format!("Bearer {}", self.client.token))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(
                body.map_or_else(String::new, Value::to_string),
            )))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}
