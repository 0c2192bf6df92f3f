//! A connection that leaves HTTP: the answer to its handshake, and then bytes from and to the actor of its WebSocket.
//!
//! Knows nothing of WebSocket frames. While nothing travels, a connection here has no buffers: what is read lies in one
//! buffer for all connections of a thread until the WebSocket has taken it, and what is written is the actor's own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_codec::{AsyncRead, AsyncWrite, Encoder as _, Framed, ReadBuf};
use actix_http::body::{BoxBody, MessageBody};
use actix_http::h1::{Codec, Message};
use actix_http::{ConnectionType, HttpMessage as _, Request, Response, StatusCode};
use actix_service::Service;
use actix_web::dev::ServiceResponse;
use actix_web::error::PayloadError;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::Stream;
use tracing::debug;

/// Bytes that may wait to be sent. With more, the actor is not asked for new ones, and so reads nothing either.
const MOST_UNSENT: usize = 32 * 1024;

/// The buffer that a thread reads into, and the least room in it for one read.
const READ_BUFFER: usize = 16 * 1024;
const LEAST_READ: usize = 4 * 1024;

thread_local! {
    static READ: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// A TCP or TLS stream.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// What a peer sends after its handshake. Ends with the connection, however that ends.
pub(super) struct Incoming {
    io: Rc<RefCell<dyn Duplex>>,
    /// Came together with the handshake.
    early: Bytes,
}

impl Stream for Incoming {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.early.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.early))));
        }
        let read = READ.with_borrow_mut(|buffer| {
            if buffer.len() < LEAST_READ {
                *buffer = BytesMut::zeroed(READ_BUFFER);
            }
            let mut room = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *self.io.borrow_mut()).poll_read(cx, &mut room))?;
            let length = room.filled().len();
            Poll::Ready(io::Result::Ok(buffer.split_to(length).freeze()))
        });
        // A broken connection reads like its end: either way nothing more comes.
        Poll::Ready(ready!(read).ok().filter(|read| !read.is_empty()).map(Ok))
    }
}

/// Answers requests that ask for a WebSocket, and carries what travels on it until the end of the connection.
pub(super) struct Upgrade<S>(Rc<S>);

impl<S> Upgrade<S> {
    /// `service` finds [`Incoming`] among the request's extensions, and sends what its response's body gives.
    pub(super) fn new(service: S) -> Self {
        Self(Rc::new(service))
    }
}

impl<S, T, B> Service<(Request, Framed<T, Codec>)> for Upgrade<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = Infallible;
    // In a box, so that the connection's task is not larger than HTTP alone makes it.
    type Future = Pin<Box<dyn Future<Output = Result<(), Infallible>>>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // An app is always ready; its error is an answer.
        Poll::Ready(Ok(()))
    }

    fn call(&self, (request, framed): (Request, Framed<T, Codec>)) -> Self::Future {
        let service = Rc::clone(&self.0);
        Box::pin(async move {
            let answered = answer(&*service, request, framed).await;
            drop(service);
            let carried = match answered {
                Ok(mut outgoing) => poll_fn(|cx| outgoing.poll_carry(cx)).await,
                Err(problem) => Err(problem),
            };
            if let Err(problem) = carried {
                debug!(%problem, "connection lost");
            }
            Ok(())
        })
    }
}

async fn answer<S, T, B>(service: &S, request: Request, framed: Framed<T, Codec>) -> io::Result<Outgoing<T>>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    B: MessageBody + 'static,
{
    let parts = framed.into_parts();
    let io = Rc::new(RefCell::new(parts.io));
    // Copied, because the buffer that it came in is large.
    let early = Bytes::copy_from_slice(&parts.read_buf);
    request.extensions_mut().insert(Incoming { io: io.clone(), early });
    let response = match service.call(request).await {
        Ok(response) => Response::from(response).map_into_boxed_body(),
        Err(error) => Response::from(error),
    };
    let (mut head, body) = response.into_parts();
    let is_refused = head.status() != StatusCode::SWITCHING_PROTOCOLS;
    if is_refused {
        head.head_mut().set_connection_type(ConnectionType::Close);
    }
    let (mut codec, mut bytes) = (parts.codec, parts.write_buf);
    codec.encode(Message::Item((head, body.size())), &mut bytes)?;
    let unsent = VecDeque::from([Bytes::copy_from_slice(&bytes)]);
    let http = is_refused.then(|| Box::new(codec));
    Ok(Outgoing { io, body: Some(body), http, unsent })
}

/// What is sent to a peer, until there is no more of it.
struct Outgoing<T> {
    io: Rc<RefCell<T>>,
    /// The answer's body: for a WebSocket its actor, which is driven by being asked.
    body: Option<BoxBody>,
    /// How the body is written where it is one of HTTP.
    http: Option<Box<Codec>>,
    unsent: VecDeque<Bytes>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Outgoing<T> {
    /// Done when everything is sent and the connection closed, or with what broke it.
    fn poll_carry(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let is_sent = self.poll_send(cx)?.is_ready();
            let unsent = self.unsent.iter().map(Bytes::len).fold(0, usize::saturating_add);
            match self.body.as_mut() {
                Some(body) if unsent < MOST_UNSENT => match ready!(Pin::new(body).poll_next(cx)) {
                    Some(Ok(bytes)) => self.queue(bytes)?,
                    // What the body could not say any more does not matter to a peer that has heard the rest.
                    Some(Err(_)) | None => self.end()?,
                },
                None if is_sent => return Pin::new(&mut *self.io.borrow_mut()).poll_shutdown(cx),
                Some(_) | None => return Poll::Pending,
            }
        }
    }

    /// Sends what there is.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io.borrow_mut();
        while let Some(first) = self.unsent.front_mut() {
            match ready!(Pin::new(&mut *io).poll_write(cx, first))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => first.advance(sent),
            }
            self.unsent.pop_front_if(|first| first.is_empty());
        }
        // A TLS stream may hold back what it took.
        Pin::new(&mut *io).poll_flush(cx)
    }

    fn queue(&mut self, bytes: Bytes) -> io::Result<()> {
        let bytes = match &mut self.http {
            Some(codec) => encode(codec, Some(bytes))?,
            None => bytes,
        };
        if !bytes.is_empty() {
            self.unsent.push_back(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.body = None;
        let end = self.http.as_mut().map(|codec| encode(codec, None)).transpose()?;
        self.unsent.extend(end.filter(|bytes| !bytes.is_empty()));
        Ok(())
    }
}

/// A piece of a body as HTTP sends it, or its end.
fn encode(codec: &mut Codec, piece: Option<Bytes>) -> io::Result<Bytes> {
    let mut bytes = BytesMut::new();
    codec.encode(Message::Chunk(piece), &mut bytes)?;
    Ok(bytes.freeze())
}
