//! A board of notes: the skeleton of an application on one-server. State, JSON, a WebSocket, a graceful stop.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use one_server::Server;
use one_server::app::{App, AppContext, Draining, RequestInfo};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

/// Older notes are forgotten.
const NOTES_MAX: usize = 100;

/// Notes that a slow follower may be behind; then it misses some.
const NEWS_MAX: usize = 16;

#[derive(Deserialize)]
struct NewNote {
    text: String,
}

#[derive(Clone, Serialize)]
struct Note {
    from: String,
    text: String,
}

/// What all application workers share. A lock is all right for a moment; never across an `await`.
struct Board {
    notes: Mutex<Vec<Note>>,
    news: broadcast::Sender<Note>,
}

/// What each handler gets.
#[derive(Clone)]
struct Shared {
    board: Arc<Board>,
    draining: Draining,
}

fn main() -> ExitCode {
    // Before all else: with `type = "process"` in the config, the keeper of processes is this program too, and stays in here.
    let server = Server::new();
    let config = std::env::args().nth(1).unwrap_or_else(|| "app.toml".into());
    let board = Arc::new(Board { notes: Mutex::default(), news: broadcast::channel(NEWS_MAX).0 });
    // Called on every application worker.
    let notes = App::new(move |worker: &AppContext| {
        let shared = Shared { board: board.clone(), draining: worker.draining() };
        Router::new().route("/api/notes", get(list).post(add)).route("/api/live", get(live)).with_state(shared)
    });
    match server.app("notes", notes).load(config) {
        Ok(server) => server.run(),
        Err(report) => {
            eprint!("{report}");
            ExitCode::FAILURE
        }
    }
}

async fn list(State(shared): State<Shared>) -> Json<Vec<Note>> {
    Json(shared.board.notes.lock().expect("nobody panics with it").clone())
}

async fn add(
    State(shared): State<Shared>,
    Extension(request): Extension<RequestInfo>,
    Json(new): Json<NewNote>,
) -> (StatusCode, Json<Note>) {
    let from = request.client.map_or_else(|| "somebody".into(), |client| client.ip().to_string());
    let note = Note { from, text: new.text };
    let mut notes = shared.board.notes.lock().expect("nobody panics with it");
    let surplus = (notes.len() + 1).saturating_sub(NOTES_MAX);
    notes.drain(..surplus);
    notes.push(note.clone());
    drop(notes);
    // An error means that nobody follows.
    let _ = shared.board.news.send(note.clone());
    (StatusCode::CREATED, Json(note))
}

async fn live(State(shared): State<Shared>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|socket| follow(socket, shared))
}

/// Tells of each new note, until the client goes or the server is to end.
async fn follow(mut socket: WebSocket, shared: Shared) {
    let mut news = shared.board.news.subscribe();
    loop {
        let message = tokio::select! {
            note = news.recv() => match note {
                Ok(note) => Message::text(serde_json::to_string(&note).expect("texts are JSON")),
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
            // Pings are answered while somebody reads.
            said = socket.recv() => match said {
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
            () = shared.draining.begun() => {
                let restart = CloseFrame { code: 1001, reason: "restart".into() };
                let _ = socket.send(Message::Close(Some(restart))).await;
                return;
            }
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}
