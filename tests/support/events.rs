//! A client of an event stream, parsing by the rules of WHATWG EventSource.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::Value;

use super::{client, soon};

/// One dispatched event.
#[derive(Debug, Clone)]
pub struct Event {
    pub name: String,
    pub data: Value,
    /// What `Last-Event-ID` would be now.
    pub last_id: String,
}

pub struct Events {
    body: Incoming,
    buffer: String,
    last_id: String,
    pub headers: http::HeaderMap,
    pub retry: Option<u64>,
}

impl Events {
    pub async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = http::Request::get(path).header("host", "app.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
        let response = soon("the head of the stream", client::send(address, request)).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        Self { body: response.into_body(), buffer: String::new(), last_id: String::new(), headers, retry: None }
    }

    /// The next event; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                if let Some(event) = self.dispatch(&block) {
                    return Some(event);
                }
            }
            let frame = soon("an event", self.body.frame()).await?.unwrap();
            self.buffer.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    pub async fn expect(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("the stream goes on");
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// The id as it stands, after blocks that dispatch nothing.
    pub async fn id_after(&mut self, blocks: usize) -> String {
        for _ in 0..blocks {
            while !self.buffer.contains("\n\n") {
                let frame = soon("a block", self.body.frame()).await.unwrap().unwrap();
                self.buffer.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
            let (block, rest) = self.buffer.split_once("\n\n").unwrap();
            let (block, rest) = (block.to_owned(), rest.to_owned());
            self.buffer = rest;
            assert!(self.dispatch(&block).is_none(), "{block} has data");
        }
        self.last_id.clone()
    }

    fn dispatch(&mut self, block: &str) -> Option<Event> {
        let (mut name, mut data) = ("message".to_owned(), None);
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => name = value.to_owned(),
                "data" => data = Some(value.to_owned()),
                "id" => self.last_id = value.to_owned(),
                "retry" => self.retry = value.parse().ok(),
                _ => {}
            }
        }
        let data = serde_json::from_str(&data?).unwrap();
        Some(Event { name, data, last_id: self.last_id.clone() })
    }
}
