//! tmp
use crate::config::Config;
use std::rc::Rc;
use std::sync::Arc;
pub struct Shared;
pub struct Splitter;
impl Shared {
    pub fn new(_: &Arc<Config>, _: usize) -> Shared {
        Shared
    }
}
pub mod monitor {
    pub async fn run(_: std::sync::Arc<super::Shared>, _: tokio::sync::watch::Receiver<bool>) {}
}
impl Splitter {
    pub fn new(
        _: Arc<Config>,
        _: usize,
        _: Arc<Shared>,
        _: Arc<crate::metrics::Worker>,
        _: Option<Arc<crate::metrics::Trace>>,
        _: usize,
    ) -> Rc<Splitter> {
        Rc::new(Splitter)
    }
    pub async fn serve_client(self: Rc<Self>, _s: crate::runtime::net::Stream, _p: Option<std::net::SocketAddr>) {}
    pub fn begin_drain(&self) {}
}
