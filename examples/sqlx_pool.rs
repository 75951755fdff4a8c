//! An application whose pool of connections ends at the splitter, by its Unix socket: sqlx as it comes, with nothing of ours in it.
//!
//! ```console
//! $ cargo run --example sqlx_pool -- 'mysql://shop:PASSWORD@localhost/shop?socket=/run/shop-db.sock'
//! ```

use std::time::Duration;

use sqlx::mysql::{MySqlPool, MySqlPoolOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("the URL of the database is missing")?;
    let pool = MySqlPoolOptions::new()
        .max_connections(64) // an idle one costs the servers nothing
        .acquire_timeout(Duration::from_secs(5))
        .max_lifetime(None) // the splitter renews connections to servers by itself: pool_age_max
        .idle_timeout(Duration::from_secs(600)) // below the splitter's client_timeout
        .connect(&url)
        .await?;
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS visits (page VARCHAR(200) PRIMARY KEY, times BIGINT NOT NULL)")
        .execute(&pool)
        .await?;
    for page in ["/", "/about", "/"] {
        println!("{page} was seen {} times", visit(&pool, page).await?);
    }
    pool.close().await;
    Ok(())
}

/// Counts a visit; how many there have been.
async fn visit(pool: &MySqlPool, page: &str) -> Result<i64, sqlx::Error> {
    // One connection: what a session reads is never older than what it has written.
    let mut connection = pool.acquire().await?;
    sqlx::query("INSERT INTO visits VALUES (?, 1) ON DUPLICATE KEY UPDATE times = times + 1")
        .bind(page)
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar("SELECT times FROM visits WHERE page = ?").bind(page).fetch_one(&mut *connection).await
}
