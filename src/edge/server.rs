//! The public listener: HTTP/1.1, with or without TLS, whose connections leave HTTP behind after a WebSocket
//! handshake. Does not know what is served on it.
//!
//! `actix_web::HttpServer` would do, but for one thing: it keeps its dispatcher, with two buffers of 8 KiB, around a
//! WebSocket for as long as that lives. So this is what `HttpServer` does, with the `upgrade` of actix-http.

use std::any::Any;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_codec::{AsyncRead, AsyncWrite, Framed};
use actix_http::body::MessageBody;
use actix_http::h1::{Codec, ExpectHandler, H1Service};
use actix_http::{HttpService, Request};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{IntoServiceFactory, ServiceFactory, fn_factory, map_config};
use actix_web::Error;
use actix_web::dev::{AppConfig, Extensions, ServiceResponse};
use rustls::ServerConfig;

use super::upgrade::Upgrade;
use crate::protocol::limits::FIRST_MESSAGE_TIMEOUT;

/// Time in seconds that connections have to end by themselves when the server stops: their sessions are over by then.
const STOP_TIMEOUT: u64 = 1;

type OnConnect = fn(&dyn Any, &mut Extensions);

/// Serves on a listener that is bound already.
///
/// `on_connect` is called with each accepted connection, a `TcpStream` or a TLS stream around one, and with what its
/// requests find; `on_worker` once on the thread of each worker; `app` twice, once for requests, and once for those that
/// ask for a WebSocket.
///
/// # Errors
/// What the operating system says.
pub fn serve<F, I, S, B>(
    listener: TcpListener,
    workers: usize,
    tls: Option<ServerConfig>,
    on_connect: OnConnect,
    on_worker: impl Fn() + Send + Clone + 'static,
    app: F,
) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request> + 'static,
    S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = Error, InitError = ()>
        + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    let builder = Server::build().workers(workers).shutdown_timeout(STOP_TIMEOUT).disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let builder = if let Some(mut tls) = tls {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        builder.listen("public", listener, move || {
            http(&app, &stopping, on_connect, &on_worker).rustls_0_23(tls.clone())
        })?
    } else {
        builder.listen("public", listener, move || http(&app, &stopping, on_connect, &on_worker).tcp())?
    };
    Ok(builder.run())
}

/// HTTP on connections of one kind.
#[expect(clippy::type_complexity, reason = "the parts of actix-http have no shorter names")]
fn http<T, W, F, I, S, B>(
    app: &F,
    stopping: &GracefulShutdownSignal,
    on_connect: OnConnect,
    on_worker: &W,
) -> H1Service<
    T,
    impl ServiceFactory<Request, Config = (), Response = ServiceResponse<B>, Error = Error, InitError = (), Future: 'static>
    + use<T, W, F, I, S, B>,
    B,
    ExpectHandler,
    impl ServiceFactory<
        (Request, Framed<T, Codec>),
        Config = (),
        Response = (),
        Error = Infallible,
        InitError = (),
        Future: 'static,
    > + use<T, W, F, I, S, B>,
>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    W: Fn() + Clone + 'static,
    F: Fn() -> I + Clone + 'static,
    I: IntoServiceFactory<S, Request> + 'static,
    S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = Error, InitError = ()>
        + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    let (stopping, on_worker, upgraded) = (stopping.clone(), on_worker.clone(), app.clone());
    HttpService::build()
        .client_request_timeout(FIRST_MESSAGE_TIMEOUT)
        // No lingering: after the last byte the relay closes TCP first, and at once.
        .client_disconnect_timeout(Duration::ZERO)
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        .on_connect_ext(move |io: &T, extensions| on_connect(io, extensions))
        .upgrade(fn_factory(move || {
            on_worker();
            let service = upgraded().into_factory().new_service(AppConfig::default());
            async move { Ok(Upgrade::new(service.await?)) }
        }))
        .h1(map_config(app(), |()| AppConfig::default()))
}
