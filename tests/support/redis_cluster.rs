//! A Redis Cluster of two servers, each with half of the slots, whose slots can be moved.

use std::time::Duration;

use super::service::{RedisServer, free_port};
use super::soon;

pub struct RedisCluster {
    pub servers: Vec<RedisServer>,
}

impl RedisCluster {
    pub async fn start() -> Self {
        let mut servers = Vec::new();
        let mut buses = Vec::new();
        for slots in [["0", "8191"], ["8192", "16383"]] {
            let bus = free_port().to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "60000", "--cluster-port", &bus];
            let server = RedisServer::with(&options).await;
            server.ask(&[&["CLUSTER", "ADDSLOTSRANGE"], &slots[..]].concat()).await;
            servers.push(server);
            buses.push(bus);
        }
        // Two that claim the same epoch would quarrel about it for a while.
        servers[1].ask(&["CLUSTER", "SET-CONFIG-EPOCH", "2"]).await;
        servers[0].ask(&["CLUSTER", "SET-CONFIG-EPOCH", "1"]).await;
        servers[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &servers[1].port.to_string(), &buses[1]]).await;
        let cluster = Self { servers };
        soon("the cluster is formed", async {
            for server in &cluster.servers {
                while !cluster.knows_all(server).await {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
        .await;
        cluster
    }

    async fn knows_all(&self, server: &RedisServer) -> bool {
        let info = server.ask(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2") && info.contains("slots_ok:16384")
    }

    /// Which server has the slot of a channel.
    pub async fn home_of(&self, channel: &str) -> (usize, String) {
        let answer = self.servers[0].ask(&["CLUSTER", "KEYSLOT", channel]).await;
        let slot = answer.trim().trim_start_matches(':').to_owned();
        (usize::from(slot.parse::<u16>().unwrap() >= 8192), slot)
    }

    /// Moves a slot to the other server, keys first, as `redis-cli --cluster reshard` does. `halfway` runs while the slot
    /// is on its way and nothing of it has moved.
    pub async fn move_slot(&self, from: usize, slot: &str, halfway: impl Future<Output = ()>) {
        let (old, new) = (&self.servers[from], &self.servers[1 - from]);
        let (old_id, new_id) = (id_of(old).await, id_of(new).await);
        new.ask(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &old_id]).await;
        old.ask(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &new_id]).await;
        halfway.await;
        let keys = old.ask(&["CLUSTER", "GETKEYSINSLOT", slot, "100"]).await;
        let port = new.port.to_string();
        let keys = keys.lines().filter(|it| !it.starts_with(['*', '$']));
        let words: Vec<_> = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"].into_iter().chain(keys).collect();
        let answer = old.ask(&words).await;
        assert!(answer.starts_with('+'), "the keys move: {answer}");
        for server in [new, old] {
            let answer = server.ask(&["CLUSTER", "SETSLOT", slot, "NODE", &new_id]).await;
            assert_eq!(answer, "+OK\r\n");
        }
    }
}

async fn id_of(server: &RedisServer) -> String {
    let answer = server.ask(&["CLUSTER", "MYID"]).await;
    answer.lines().nth(1).unwrap().to_owned()
}
