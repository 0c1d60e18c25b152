//! The application as it is reached from here: whether it answers, and whether its clock is the node's.

use std::time::SystemTime;

use http::{Request, Response, header};
use tokio::time::timeout;

use super::PATIENCE;
use super::finding::Finding;
use crate::app;
use crate::backend::{Backend, Body, Target};
use crate::config::Config;

/// Receivers refuse a signature that is five minutes away; half of that is left for the way.
const FAR: f64 = 150.0;
const NEAR: f64 = 5.0;

pub(super) async fn reach(config: &Config, node_time: Option<SystemTime>) -> Vec<Finding> {
    let measured = SystemTime::now();
    // What the node's clock is ahead of ours.
    let node_ahead = node_time.map(|it| seconds_between(measured, it));
    let mut findings = Vec::new();
    for target in &config.upstream.url.0 {
        let target = &target.0;
        match head(config, target).await {
            Ok(response) => {
                let found = format!("{target} answers ({})", response.status().as_u16());
                findings.push(match response.status().is_server_error() {
                    false => Finding::ok("backend", found),
                    true => {
                        Finding::warning("backend", found, "it answers HEAD / with an error of its own: see its log")
                    }
                });
                findings.extend(clock(target, &response, node_ahead));
            }
            Err(why) => {
                findings.push(Finding::failed("backend", format!("{target}: {why}"), "start it, or see `upstream`"))
            }
        }
    }
    findings
}

async fn head(config: &Config, target: &Target) -> Result<Response<Body>, String> {
    let settings = crate::backend::Settings { targets: vec![target.clone()], ..app::backend_settings(config) };
    let backend = Backend::build(settings, None).map_err(|error| error.to_string())?;
    let request =
        Request::head("/").header(header::USER_AGENT, super::webhook::OURSELVES).body(bytes::Bytes::new().into());
    let request = request.map_err(|error| error.to_string())?;
    match timeout(PATIENCE, backend.send(request)).await {
        Ok(answer) => answer.map_err(|failure| failure.error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

/// None where the backend does not say what time it is.
fn clock(target: &Target, response: &Response<Body>, node_ahead: Option<f64>) -> Option<Finding> {
    let date = response.headers().get(header::DATE)?.to_str().ok()?;
    let ahead = seconds_between(SystemTime::now(), httpdate::parse_http_date(date).ok()?) - node_ahead?;
    let found = format!("{target} and the node are {:.0} s apart", ahead.abs());
    let fix = "run NTP on both: signatures of webhooks and times in tokens go by the clock";
    Some(match ahead.abs() {
        // Dates are whole seconds.
        ..NEAR => Finding::ok("clock", found),
        NEAR..FAR => Finding::warning("clock", found, fix),
        _ => Finding::failed("clock", found, fix),
    })
}

fn seconds_between(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(later) => later.as_secs_f64(),
        Err(earlier) => -earlier.duration().as_secs_f64(),
    }
}
