//! Checks of applications inside the process. What a check says to another server over a socket comes to an application worker through
//! a pipe in memory, and the service answers it as it answers clients, beside what the worker has under way: a check waits for the
//! worker's next look at what it has under way, a tenth of a second at most, and takes no place of a request.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex};
use tokio::sync::mpsc;

use super::worker::contained;
use super::{AnyBody, Body, ConnectionInfo, LocalService, RequestInfo};
use crate::http::h1::write_chunk_head;
use crate::metrics::AppWorkerStats;

/// Checks that wait for a worker, of each application: one for each interval in which it takes none.
const WAITING_MAX: usize = 16;
/// What a pipe holds in each direction.
const PIPE_BYTES: usize = 16 << 10;
/// Longest head and content of a check, which are the config's.
const CHECK_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 64;

/// What a check is to be answered by.
pub(super) struct Check {
    pub(super) app: usize,
    pipe: DuplexStream,
    deadline: Instant,
}

/// Where checks of one worker, or of the threads of one application, are handed in.
#[derive(Clone, Debug)]
pub(crate) struct CheckDoor(mpsc::Sender<Check>);

/// The other side of it. Threads of one application share it.
#[derive(Clone)]
pub(crate) struct Checks(Arc<Mutex<mpsc::Receiver<Check>>>);

/// A door for the checks of so many applications, and what comes through it.
pub(crate) fn checks(apps: usize) -> (CheckDoor, Checks) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX * apps.max(1));
    (CheckDoor(sender), Checks(Arc::new(Mutex::new(receiver))))
}

impl CheckDoor {
    /// A connection to an application, by its index, for one request of HTTP/1.1 that is to be answered by `deadline`.
    ///
    /// Errors: nobody takes them.
    pub(crate) fn connect(&self, app: usize, deadline: Instant) -> io::Result<DuplexStream> {
        let (ours, pipe) = duplex(PIPE_BYTES);
        let check = Check { app, pipe, deadline };
        self.0.try_send(check).map_err(|_| io::Error::other("its worker takes no checks"))?;
        Ok(ours)
    }
}

impl Checks {
    /// The next one, if there is one and no other thread takes it.
    pub(super) fn next(&self) -> Option<Check> {
        self.0.try_lock().ok()?.try_recv().ok()
    }
}

impl Check {
    /// Has `service` answer it. Ends early where the one who asks has given up, and when it is too late.
    pub(super) async fn answer(self, service: LocalService, stats: Arc<AppWorkerStats>) {
        let deadline = tokio::time::Instant::from_std(self.deadline);
        let (mut asked, mut answer) = tokio::io::split(self.pipe);
        let answered = async {
            let mut request = Asked(&mut asked).request().await?;
            request.extensions_mut().insert(info(self.deadline));
            let (mut nothing, is_head) = ([0], request.method() == http::Method::HEAD);
            let answering = async {
                let response = match contained(async { service(request).await }).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(error)) => failure(&format!("application failed: {error}")),
                    Err(_) => {
                        stats.panics.inc();
                        failure("application panicked")
                    }
                };
                // Whoever has given up does not read it.
                drop(tell(&mut answer, response, is_head).await);
            };
            tokio::select! {
                biased;
                // Nothing comes behind a check but its end.
                _ = asked.read(&mut nothing) => {}
                () = answering => {}
            }
            Some(())
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline) => {}
            _ = answered => {}
        }
    }
}

fn info(deadline: Instant) -> RequestInfo {
    RequestInfo {
        client: None,
        is_https: false,
        version: http::Version::HTTP_11,
        request_id: 0,
        deadline,
        connection: Arc::new(ConnectionInfo { peer: None, local: None, tls: None }),
    }
}

/// What the one who asks has to say.
struct Asked<'a>(&'a mut ReadHalf<DuplexStream>);

impl Asked<'_> {
    /// `None`: there is none, or none that makes sense.
    async fn request(&mut self) -> Option<Request<Body>> {
        let mut bytes = Vec::with_capacity(1024);
        loop {
            if let Some((request, head_bytes)) = head(&bytes)? {
                let length = request.headers().get(header::CONTENT_LENGTH);
                let length: usize = length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
                while bytes.len() < head_bytes + length {
                    self.more(&mut bytes).await?;
                }
                let content = Bytes::copy_from_slice(&bytes[head_bytes..head_bytes + length]);
                return Some(request.map(|()| Body::full(content)));
            }
            self.more(&mut bytes).await?;
        }
    }

    async fn more(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let read = self.0.read_buf(bytes).await.ok()?;
        (read > 0 && bytes.len() <= CHECK_BYTES_MAX).then_some(())
    }
}

async fn tell(pipe: &mut WriteHalf<DuplexStream>, response: http::Response<AnyBody>, is_head: bool) -> io::Result<()> {
    let (parts, mut body) = response.into_parts();
    let mut bytes = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    for (name, value) in &parts.headers {
        if [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name) {
            continue;
        }
        bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    pipe.write_all(&bytes).await?;
    if is_head {
        return Ok(());
    }
    loop {
        let frame = match contained(http_body_util::BodyExt::frame(&mut body)).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return pipe.write_all(b"0\r\n\r\n").await,
            // What breaks off is not completed.
            Ok(Some(Err(_))) | Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            bytes.clear();
            write_chunk_head(&mut bytes, data.len());
            bytes.extend_from_slice(&data);
            bytes.extend_from_slice(b"\r\n");
            pipe.write_all(&bytes).await?;
        }
    }
}

fn failure(why: &str) -> http::Response<AnyBody> {
    let body = http_body_util::Full::new(Bytes::copy_from_slice(why.as_bytes()));
    let body: AnyBody = Box::pin(http_body_util::BodyExt::map_err(body, |never: Infallible| match never {}));
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// The head at the start of `bytes`, and its length; `Some(None)`: it is not whole. `None`: it makes no sense.
fn head(bytes: &[u8]) -> Option<Option<(Request<()>, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes).ok()? else { return Some(None) };
    let mut request = Request::new(());
    *request.method_mut() = head.method?.parse().ok()?;
    *request.uri_mut() = head.path?.parse::<Uri>().ok()?;
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(Some((request, head_bytes)))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    /// What a check gets for what it sends.
    fn asked(sent: &str, service: impl Fn(Request<Body>) -> http::Response<AnyBody> + 'static) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let service: LocalService = Rc::new(move |request| {
            let response = service(request);
            Box::pin(async move { Ok(response) })
        });
        runtime.block_on(async {
            let (door, checks) = checks(1);
            let mut pipe = door.connect(3, Instant::now() + Duration::from_secs(5)).unwrap();
            pipe.write_all(sent.as_bytes()).await.unwrap();
            let check = checks.next().unwrap();
            assert_eq!(check.app, 3);
            let mut answer = Vec::new();
            let (_, read) = tokio::join!(check.answer(service, Arc::default()), pipe.read_to_end(&mut answer));
            read.unwrap();
            String::from_utf8(answer).unwrap()
        })
    }

    fn text(status: u16, text: &'static str) -> http::Response<AnyBody> {
        let body = http_body_util::Full::new(Bytes::from_static(text.as_bytes()));
        let body: AnyBody = Box::pin(http_body_util::BodyExt::map_err(body, |never: Infallible| match never {}));
        http::Response::builder().status(status).header("x-own", "1").header("content-length", "9").body(body).unwrap()
    }

    #[test]
    fn the_service_answers_what_is_asked() {
        let answer = asked("GET /ready?x HTTP/1.1\r\nHost: app\r\nX-Check: yes\r\n\r\n", |request| {
            assert_eq!((request.uri().path(), request.uri().query()), ("/ready", Some("x")));
            assert_eq!(request.headers()["x-check"], "yes");
            assert!(request.extensions().get::<RequestInfo>().is_some_and(|info| info.client.is_none()));
            text(204, "it is well")
        });
        let expect =
            "HTTP/1.1 204 No Content\r\nx-own: 1\r\nTransfer-Encoding: chunked\r\n\r\na\r\nit is well\r\n0\r\n\r\n";
        assert_eq!(answer, expect);
        let panics = asked("GET / HTTP/1.1\r\n\r\n", |_| panic!("on purpose"));
        assert!(panics.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{panics}");
    }

    #[test]
    fn what_makes_no_sense_is_not_answered() {
        for sent in ["GET\r\n\r\n", "\0", "GET / HTTP/1.1\r\nbad name: x\r\n\r\n"] {
            assert_eq!(asked(sent, |_| panic!("asked")), "", "{sent:?}");
        }
    }

    /// Has no more than this, and no end.
    struct Endless(Option<Bytes>);

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = crate::app::BoxError;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            self.0
                .take()
                .map_or(std::task::Poll::Pending, |data| std::task::Poll::Ready(Some(Ok(http_body::Frame::data(data)))))
        }
    }

    #[test]
    fn a_body_that_does_not_end_ends_with_whoever_asks_and_at_the_deadline() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let service: LocalService = Rc::new(|_| {
            Box::pin(async {
                Ok(http::Response::new(Box::pin(Endless(Some(Bytes::from_static(b"first")))) as AnyBody))
            })
        });
        for (method, leaves_after, ends_after, answer_bytes) in
            [("GET", 100, 100..400, 57), ("GET", 3000, 500..1500, 57), ("HEAD", 3000, 0..400, 47)]
        {
            runtime.block_on(async {
                let begun = Instant::now();
                let (door, checks) = checks(1);
                let mut pipe = door.connect(0, begun + Duration::from_millis(500)).unwrap();
                pipe.write_all(format!("{method} / HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
                let answering = checks.next().unwrap().answer(service.clone(), Arc::default());
                let asking = async {
                    let mut answer = Vec::new();
                    let reading = pipe.read_to_end(&mut answer);
                    drop(tokio::time::timeout(Duration::from_millis(leaves_after), reading).await);
                    drop(pipe);
                    answer
                };
                let ended = async {
                    answering.await;
                    begun.elapsed().as_millis()
                };
                let (ended, answer) = tokio::join!(ended, asking);
                assert!(ends_after.contains(&ended), "{method}: {ended} ms, {ends_after:?}");
                assert_eq!(answer.len(), answer_bytes, "{method}: {}", String::from_utf8_lossy(&answer));
            });
        }
    }

    #[test]
    fn only_so_many_wait() {
        let (door, checks) = checks(1);
        let now = Instant::now();
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| door.connect(0, now).unwrap()).collect();
        assert!(door.connect(0, now).is_err());
        drop((waiting, checks.next()));
        assert!(door.connect(0, now).is_ok());
    }
}
