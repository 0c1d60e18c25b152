//! Keeps up with a Redis Cluster: asks who has which slots, has links to each of those, and moves channels whose slot moved.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Core;
use super::find::Finder;
use super::resp::Value;
use super::server::{Errand, Server};
use super::settings::Place;
use super::slots::{Table, slot_of, tag_on};
use super::socket::Error as Broken;

/// How often a cluster is asked that is well.
const EVERY: Duration = Duration::from_secs(15);
/// How often one that is not: somebody may have been promoted.
const WHILE_DOWN: Duration = Duration::from_millis(500);
/// Between two questions, however often slots are said to have moved.
const AT_LEAST: Duration = Duration::from_millis(50);

/// The slots of one server.
type Share = (Place, Vec<RangeInclusive<u16>>);

/// A server's links, which end with this.
struct Kept {
    server: Arc<Server>,
    _work: JoinSet<()>,
}

/// Keeps the table of slots true, for ever.
pub(super) async fn keep(core: Arc<Core>, seeds: Vec<Place>) {
    let mut kept: HashMap<Place, Kept> = HashMap::new();
    loop {
        let asked = Instant::now();
        let places: Vec<_> = kept.keys().chain(&seeds).cloned().collect();
        match ask_any(&core, &places).await {
            Ok(shares) => take(&core, &mut kept, shares),
            Err(why) => warn!(%why, "no server of the Redis Cluster says who has which slots"),
        }
        let pause = if core.is_in_reach() { EVERY } else { WHILE_DOWN };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = core.slots_moved.notified() => tokio::time::sleep_until(asked + AT_LEAST).await,
        }
    }
}

async fn ask_any(core: &Core, places: &[Place]) -> Result<Vec<Share>, Broken> {
    let mut failed = Broken::Elsewhere("there is no address");
    for place in places {
        match ask(core, place).await {
            Ok(shares) if !shares.is_empty() => return Ok(shares),
            Ok(_) => failed = Broken::Elsewhere("nobody has any slots"),
            Err(why) => failed = why,
        }
    }
    Err(failed)
}

async fn ask(core: &Core, place: &Place) -> Result<Vec<Share>, Broken> {
    let asking = async {
        let mut socket = core.dialer.open(place).await?;
        socket.ask(&[b"CLUSTER", b"SLOTS"]).await
    };
    let answer = tokio::time::timeout(core.dialer.timeout, asking);
    let answer = answer.await.unwrap_or(Err(Broken::Timeout(core.dialer.timeout)))?;
    let mut shares: HashMap<Place, Vec<_>> = HashMap::new();
    for range in answer.list().unwrap_or_default() {
        if let Some((master, slots)) = read_range(range, place) {
            shares.entry(master).or_default().push(slots);
        }
    }
    Ok(shares.into_iter().collect())
}

/// First slot, last slot, the master's host and port; replicas follow. A server that does not know its own name leaves
/// the host out: then it is the one that was asked.
fn read_range(range: Value, asked: &Place) -> Option<(Place, RangeInclusive<u16>)> {
    let range = range.list()?;
    let [first, last, Value::List(master), ..] = &range[..] else { return None };
    let slot = |it: &Value| it.number().and_then(|it| u16::try_from(it).ok());
    let Place::Tcp { host: asked, is_tls, .. } = asked else { return None };
    let host = master.first()?.text().filter(|it| !it.is_empty()).unwrap_or(asked);
    let port = slot(master.get(1)?)?;
    Some((Place::Tcp { host: host.to_owned(), port, is_tls: *is_tls }, slot(first)?..=slot(last)?))
}

/// Takes up what is new, lets go what is gone, and sends channels to their new homes.
fn take(core: &Arc<Core>, kept: &mut HashMap<Place, Kept>, shares: Vec<Share>) {
    let mut servers = Vec::new();
    let mut still = HashMap::new();
    for (place, ranges) in shares {
        let has = |tag: &str| ranges.iter().any(|it| it.contains(&slot_of(tag)));
        // The canary flies on a slot of the server's own; without that slot it is met anew.
        let known = kept.remove(&place).filter(|it| has(&it.server.tag));
        let known = known.or_else(|| tag_on(&ranges).map(|tag| meet(core, &place, tag)));
        let Some(known) = known else { continue };
        servers.push((known.server.clone(), ranges));
        still.insert(place, known);
    }
    for gone in std::mem::replace(kept, still).into_keys() {
        info!(server = %gone, "has no slots of the Redis Cluster any more");
    }
    core.table.store(Arc::new(Table::sharded(servers)));
    let table = core.table.load();
    for (channel, old, new) in core.following.move_homes(|it| table.server_of(it.as_str()).cloned()) {
        old.errands.add(Errand::Subscription(channel.clone()));
        new.errands.add(Errand::Subscription(channel));
    }
    core.table_changed.send_modify(|it| *it += 1);
    core.reach_changed();
}

fn meet(core: &Arc<Core>, place: &Place, tag: String) -> Kept {
    info!(server = %place, "has slots of the Redis Cluster");
    let mut work = JoinSet::new();
    let server = core.meet(Finder::Any([place.clone()].into()), tag, &mut work);
    Kept { server, _work: work }
}
