use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::channel::Data;

/// A JSON object that is being written. Writes its brace when dropped.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        self.quoted(name);
        self.out.push(b':');
    }

    fn quoted(&mut self, text: &str) {
        serde_json::to_writer(&mut *self.out, text).expect("a text can be written into memory");
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    pub(super) fn optional_text(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.raw(name, "null"),
        }
    }

    /// What is JSON already.
    pub(super) fn raw(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        write!(self.out, "{value}").expect("memory can be written to");
    }

    pub(super) fn data(&mut self, data: &Data) {
        match data {
            Data::Json(json) => {
                self.name("data");
                self.out.extend_from_slice(json);
            }
            Data::Binary(bytes) => {
                self.raw("data", "null");
                self.raw("data_base64", format_args!("\"{}\"", BASE64_STANDARD.encode(bytes)));
            }
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Object<'_> {
        self.name(name);
        Object::open(self.out)
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        self.out.push(b'}');
    }
}
