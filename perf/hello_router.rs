//! The application of the chain comparison: one axum router, served once by hyper and once by one-server's
//! application workers. Both programs include this file, so both run the same code.

use axum::extract::Query;
use axum::routing::get;
use axum::{Json, Router};

/// Makes the answer about as long as the 512-byte file of the other comparisons.
const NOTE: &str = "An ordinary handler: it reads a query, builds a value, and writes it as JSON. It waits for nothing, \
                    so that what is measured is the way to it and back.";

/// What the query may hold.
#[derive(serde::Deserialize)]
struct Question {
    #[serde(default = "nobody_in_particular")]
    name: String,
}

fn nobody_in_particular() -> String {
    "world".into()
}

/// What `/hello` answers, about 512 bytes of JSON.
#[derive(serde::Serialize)]
struct Greeting {
    greeting: String,
    note: &'static str,
    items: Vec<Item>,
}

#[derive(serde::Serialize)]
struct Item {
    id: u32,
    title: String,
    price_cents: u32,
}

/// The router both programs serve: `GET /hello`, `GET /hello?name=…`.
pub(crate) fn router() -> Router {
    Router::new().route("/hello", get(hello))
}

async fn hello(Query(question): Query<Question>) -> Json<Greeting> {
    let items = (1..=5).map(|id| Item { id, title: format!("article number {id}"), price_cents: 995 * id }).collect();
    Json(Greeting { greeting: format!("Hello, {}!", question.name), note: NOTE, items })
}
