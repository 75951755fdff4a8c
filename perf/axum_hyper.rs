//! The application server of the classic chain nginx → HAProxy → axum: hyper on tokio, one thread.
//!
//! Set up the way the axum guide does it, with the two things an operator would also do: Nagle's algorithm off, and
//! mimalloc, as one-server has it. What it serves is [`hello_router`], the same as `chain_app`.

mod hello_router;

use std::net::SocketAddr;

use axum::serve::ListenerExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: axum_hyper --listen ADDRESS:PORT";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = listen_address(std::env::args().skip(1))?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async move {
        let listener = tokio::net::TcpListener::bind(address).await?;
        println!("listening on {} with hyper on tokio, one thread", listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            // A refusal costs latency, not correctness, and the run would show it.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, hello_router::router()).await?;
        Ok(())
    })
}

fn listen_address(mut words: impl Iterator<Item = String>) -> Result<SocketAddr, String> {
    match (words.next().as_deref(), words.next(), words.next()) {
        (Some("--listen"), Some(address), None) => address.parse().map_err(|e| format!("--listen {address}: {e}")),
        _ => Err(USAGE.into()),
    }
}
