//! What each path of the guest book answers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};

use super::database::DatabaseError;
use super::entry::{Entry, NewEntry};
use super::page::{self, Draft};
use super::store::{RequestId, Store};
use super::stream::SlowLines;

/// Nothing from elsewhere, no framing, forms only to us.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'",
);

/// Query of the page.
#[derive(Deserialize)]
pub(super) struct PageQuery {
    /// Id of an entry that has to be in the list: the reader has just written it.
    seen: Option<u64>,
}

/// The form.
#[derive(Deserialize)]
pub(super) struct SignForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    message: String,
}

/// The latest entries, for programs.
#[derive(Serialize)]
struct Listing {
    /// `memory` or `database`.
    store: &'static str,
    /// The same in a sentence.
    described: String,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Problem {
    error: String,
}

pub(super) async fn page(
    State(store): State<Arc<Store>>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    match store.latest(request_id(&headers), query.seen).await {
        Ok(entries) => html(StatusCode::OK, page::render(&entries, &store.described(), &Draft::default())),
        Err(error) => unavailable(&headers, &error),
    }
}

pub(super) async fn entries(
    State(store): State<Arc<Store>>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    match store.latest(request_id(&headers), query.seen).await {
        Ok(entries) => {
            fresh(Json(Listing { store: store.kind(), described: store.described(), entries }).into_response())
        }
        Err(error) => unavailable(&headers, &error),
    }
}

/// 303 to the page, or 201 with the entry for a client that asks for JSON. 422 when a rule is broken, 403 when the form
/// stands on another site.
pub(super) async fn sign(State(store): State<Arc<Store>>, headers: HeaderMap, Form(form): Form<SignForm>) -> Response {
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return (StatusCode::FORBIDDEN, "This form takes entries from its own site only.\n").into_response();
    }
    let request = request_id(&headers);
    let entry = match NewEntry::check(&form.name, &form.message, now_ms()) {
        Ok(entry) => entry,
        Err(refused) if wants_json(&headers) => {
            return problem(StatusCode::UNPROCESSABLE_ENTITY, refused.to_string());
        }
        Err(refused) => {
            let draft = Draft { name: &form.name, message: &form.message, problem: Some(refused.to_string()) };
            return match store.latest(request, None).await {
                Ok(entries) => {
                    html(StatusCode::UNPROCESSABLE_ENTITY, page::render(&entries, &store.described(), &draft))
                }
                Err(error) => unavailable(&headers, &error),
            };
        }
    };
    match store.add(request, entry).await {
        Ok(entry) if wants_json(&headers) => fresh((StatusCode::CREATED, Json(entry)).into_response()),
        Ok(entry) => Redirect::to(&format!("/guestbook/?seen={}#entries", entry.id)).into_response(),
        Err(error) => unavailable(&headers, &error),
    }
}

pub(super) async fn stream() -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    fresh((content_type, Body::new(SlowLines::new())).into_response())
}

pub(super) async fn hello() -> &'static str {
    "Hello from an application worker.\n"
}

fn request_id(headers: &HeaderMap) -> RequestId {
    headers.get("x-request-id").map_or(RequestId(None), |value| RequestId::parse(value.as_bytes()))
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.starts_with("application/json"))
}

fn html(status: StatusCode, page: String) -> Response {
    let policy = [(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)];
    fresh((status, policy, Html(page)).into_response())
}

/// Marks an answer as one that no cache may keep.
fn fresh(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn problem(status: StatusCode, error: String) -> Response {
    fresh((status, Json(Problem { error })).into_response())
}

/// The reader learns that the database is away; the operator's log says why.
fn unavailable(headers: &HeaderMap, error: &DatabaseError) -> Response {
    tracing::warn!(request = ?request_id(headers).0, "guest book: {error}");
    let text = "The guest book's database does not answer. Please try again in a moment.";
    let status = StatusCode::SERVICE_UNAVAILABLE;
    if wants_json(headers) { problem(status, text.to_owned()) } else { html(status, page::render_failure(text)) }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::{Request, Response, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use crate::demo::{DemoSettings, router};

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    async fn call(router: &Router, request: Request<Body>) -> (StatusCode, Response<()>, String) {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (parts.status, Response::from_parts(parts, ()), text)
    }

    fn get(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).unwrap()
    }

    fn post() -> axum::http::request::Builder {
        Request::post("/guestbook/").header("content-type", "application/x-www-form-urlencoded")
    }

    #[test]
    fn a_signed_entry_is_on_the_page_and_escaped() {
        run(async {
            let router = router(DemoSettings::new(None));
            let form = "name=%3Cb%3EAda&message=1+%3C+2+%26+%22quotes%22%0D%0Anext";
            let (status, head, _) = call(&router, post().body(form.into()).unwrap()).await;
            assert_eq!(status, StatusCode::SEE_OTHER);
            assert_eq!(head.headers()["location"], "/guestbook/?seen=1#entries");
            let (status, head, page) = call(&router, get("/guestbook/?seen=1")).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(head.headers()["cache-control"], "no-store");
            assert!(page.contains("&lt;b&gt;Ada"), "{page}");
            assert!(page.contains("1 &lt; 2 &amp; &quot;quotes&quot;\nnext"), "{page}");
            assert!(!page.contains("<b>Ada"));
        });
    }

    #[test]
    fn json_clients_get_json() {
        run(async {
            let router = router(DemoSettings::new(None));
            let request = post().header("accept", "application/json").body("name=Ada&message=hi".into()).unwrap();
            let (status, _, body) = call(&router, request).await;
            assert_eq!(status, StatusCode::CREATED);
            assert!(body.contains(r#""id":1,"name":"Ada","message":"hi""#), "{body}");
            let (status, _, body) = call(&router, get("/guestbook/api/entries")).await;
            assert_eq!(status, StatusCode::OK);
            assert!(body.contains(r#""store":"memory""#) && body.contains(r#""name":"Ada""#), "{body}");
        });
    }

    #[test]
    fn a_broken_rule_keeps_what_was_written() {
        run(async {
            let router = router(DemoSettings::new(None));
            let (status, _, page) = call(&router, post().body("name=&message=%3Chi%3E".into()).unwrap()).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(page.contains("the name is empty") && page.contains("&lt;hi&gt;</textarea>"), "{page}");
            let long = format!("name=a&message={}", "x".repeat(100_000));
            let (status, _, _) = call(&router, post().body(long.into()).unwrap()).await;
            assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        });
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        run(async {
            let router = router(DemoSettings::new(None));
            let request = post().header("sec-fetch-site", "cross-site").body("name=a&message=b".into()).unwrap();
            assert_eq!(call(&router, request).await.0, StatusCode::FORBIDDEN);
            assert!(!call(&router, get("/guestbook/api/entries")).await.2.contains(r#""name":"a""#));
        });
    }

    #[test]
    fn workers_share_the_entries_in_memory() {
        run(async {
            let settings = DemoSettings::new(None);
            let (one, two) = (router(settings.clone()), router(settings));
            call(&one, post().body("name=Ada&message=hi".into()).unwrap()).await;
            assert!(call(&two, get("/guestbook/api/entries")).await.2.contains("Ada"));
        });
    }

    #[test]
    fn small_pages_and_unknown_ones() {
        run(async {
            let router = router(DemoSettings::new(None));
            assert_eq!(call(&router, get("/guestbook/hello")).await.2, "Hello from an application worker.\n");
            assert_eq!(call(&router, get("/guestbook/nothing")).await.0, StatusCode::NOT_FOUND);
            let wrong = Request::put("/guestbook/").body(Body::empty()).unwrap();
            assert_eq!(call(&router, wrong).await.0, StatusCode::METHOD_NOT_ALLOWED);
        });
    }
}
