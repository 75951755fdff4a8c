//! Load balancer: upstreams, servers, balancing, health, pools, retries, forwarding.

pub mod health;
