//! An application with a database: the pools of two drivers, as they come, on an application worker. The file `database` beside the
//! config has the URL, which leads to a splitter of the same process.
//!
//! | path | answer |
//! |---|---|
//! | `/sqlx/PAGE`, `/mysql_async/PAGE` | how often that page was asked for, this time included |
//! | `/sqlx-waits`, `/mysql_async-waits` | after a second in which the database has not answered |

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use mysql_async::prelude::Queryable;
use mysql_async::{Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};
use one_server::app::{App, AppContext, BoxError};
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};

const VISIT: &str = "INSERT INTO visits VALUES (?, 1) ON DUPLICATE KEY UPDATE times = times + 1";
const TIMES: &str = "SELECT times FROM visits WHERE page = ?";
const WAIT: &str = "SELECT SLEEP(1)";

pub(crate) fn app() -> App {
    // Pools of a worker's own: a connection is used on the thread that has opened it.
    App::new(|_: &AppContext| {
        let pools = pools().expect("a URL in the file `database`");
        Router::new()
            .route("/sqlx/{page}", get(|State((pool, _)): Pools, Path(page)| answer(by_sqlx(pool, page))))
            .route("/mysql_async/{page}", get(|State((_, pool)): Pools, Path(page)| answer(by_mysql_async(pool, page))))
            .route("/sqlx-waits", get(|State((pool, _)): Pools| answer(sqlx_waits(pool))))
            .route("/mysql_async-waits", get(|State((_, pool)): Pools| answer(mysql_async_waits(pool))))
            .with_state(pools)
    })
}

type Pools = State<(MySqlPool, Pool)>;

fn pools() -> Result<(MySqlPool, Pool), BoxError> {
    let url = std::fs::read_to_string(super::beside_config("database")?)?;
    let sqlx = MySqlPoolOptions::new().max_connections(16).acquire_timeout(Duration::from_secs(15));
    let most = PoolConstraints::new(0, 16).ok_or("0 is less than 16")?;
    let pool = PoolOpts::new().with_constraints(most).with_inactive_connection_ttl(Duration::from_secs(600));
    let options = OptsBuilder::from_opts(Opts::from_url(&url)?).pool_opts(pool);
    Ok((sqlx.connect_lazy(&url)?, Pool::new(options)))
}

async fn answer(work: impl Future<Output = Result<i64, BoxError>>) -> (StatusCode, String) {
    match work.await {
        Ok(number) => (StatusCode::OK, number.to_string()),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn by_sqlx(pool: MySqlPool, page: String) -> Result<i64, BoxError> {
    let mut transaction = pool.begin().await?;
    sqlx::query(VISIT).bind(&page).execute(&mut *transaction).await?;
    let times = sqlx::query_scalar(TIMES).bind(&page).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(times)
}

async fn by_mysql_async(pool: Pool, page: String) -> Result<i64, BoxError> {
    let mut transaction = pool.start_transaction(mysql_async::TxOpts::default()).await?;
    transaction.exec_drop(VISIT, (&page,)).await?;
    let times: Option<i64> = transaction.exec_first(TIMES, (&page,)).await?;
    transaction.commit().await?;
    times.ok_or_else(|| "it was there a moment ago".into())
}

async fn sqlx_waits(pool: MySqlPool) -> Result<i64, BoxError> {
    Ok(sqlx::query_scalar(WAIT).fetch_one(&pool).await?)
}

async fn mysql_async_waits(pool: Pool) -> Result<i64, BoxError> {
    Ok(pool.get_conn().await?.query_first(WAIT).await?.ok_or("no row")?)
}
