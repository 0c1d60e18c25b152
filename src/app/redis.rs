//! From the file's `engine.redis` to what that engine is opened with.

use super::CannotBuild;
use crate::config::{Config, OneOrMany, Secret};
use crate::engine::redis::{Login, Settings, Shape, Url, trust};

/// None where another engine keeps the publications.
pub(super) fn settings(config: &Config) -> Result<Option<Settings>, CannotBuild> {
    let Some(redis) = config.engine.redis() else { return Ok(None) };
    let login = login(redis.username.as_ref(), redis.password.as_ref());
    let (urls, shape) = match &redis.sentinel {
        Some(it) => {
            let asker = self::login(it.username.as_ref(), it.password.as_ref());
            (urls(&it.url)?, Shape::Sentinel { master: it.master.clone(), login: asker })
        }
        None if redis.cluster => (urls(&redis.url)?, Shape::Cluster),
        None => (urls(&redis.url)?, Shape::Single),
    };
    let is_sentinel = redis.sentinel.is_some();
    let named = urls.iter().map(|it| &it.login).find(|it| **it != Login::default() && !is_sentinel);
    Ok(Some(Settings {
        database: urls.first().map_or(0, |it| it.database),
        login: named.cloned().unwrap_or(login),
        places: urls.into_iter().map(|it| it.place).collect(),
        shape,
        tls: trust(redis.ca.as_deref())?,
        prefix: redis.prefix.clone(),
        connect_timeout: redis.connect_timeout.0,
        timeout: redis.timeout.0,
        lease: redis.lease.0,
    }))
}

fn urls(urls: &OneOrMany<Secret>) -> Result<Vec<Url>, CannotBuild> {
    Ok(urls.0.iter().map(|it| Url::parse(it.reveal())).collect::<Result<_, _>>()?)
}

fn login(username: Option<&String>, password: Option<&Secret>) -> Login {
    Login { username: username.cloned(), password: password.map(|it| it.reveal().to_owned()) }
}
