//! A Redis server in a container of its own, removed in the end.

use std::fmt;
use std::iter;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread::JoinHandle;

use redis::Client;
use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{GenericImage, ImageExt as _, TestcontainersError};
use tokio::sync::oneshot;

use super::{command, until};

/// Redis's port inside.
const PORT: u16 = 6379;

/// A running container.
pub(super) struct Container {
    address: SocketAddr,
    /// An engine of the user may publish the port on all addresses of the machine.
    password: String,
    /// Dropped to end it.
    end: Option<oneshot::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Container {
    /// Starts one. The thread that keeps it has a runtime of its own, so that tests with and without one may ask.
    pub(super) fn start(image: &'static str) -> Self {
        let password = format!("{:032x}", rand::random::<u128>());
        let (end, ended) = oneshot::channel();
        let (sender, started) = mpsc::channel();
        let secret = password.clone();
        let keeper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(keep(image, &secret, &sender, ended));
        });
        let address = started.recv().unwrap().unwrap_or_else(|problem| panic!("no container of {image}: {problem}"));
        Self { address, password, end: Some(end), keeper: Some(keeper) }
    }

    /// How clients reach it.
    pub(super) fn url(&self) -> String {
        url(&self.password, self.address)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end = None;
        self.keeper.take().into_iter().for_each(|keeper| keeper.join().unwrap_or_default());
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn keep(
    image: &str,
    password: &str,
    started: &mpsc::Sender<Result<SocketAddr, TestcontainersError>>,
    ended: oneshot::Receiver<()>,
) {
    let (name, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((image, "latest"));
    let image = GenericImage::new(name, tag)
        .with_exposed_port(PORT.tcp())
        .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
        .with_cmd(["--save", "", "--appendonly", "no", "--requirepass", password]);
    let container = match image.start().await {
        Ok(container) => container,
        Err(problem) => return started.send(Err(problem)).unwrap(),
    };
    let port = container.get_host_port_ipv4(PORT).await;
    let address = match (container.get_host().await, port) {
        (Ok(host), Ok(port)) => Ok(reachable(&host.to_string(), port, password)),
        (Err(problem), _) | (_, Err(problem)) => Err(problem),
    };
    started.send(address).unwrap();
    ended.await.ok();
    container.rm().await.ok();
}

/// Where it answers: on loopback, or on the engine's host. A test inside a container is told of the engine's network,
/// which is wrong where the engine runs beside it and publishes on loopback only. Ports are published for version 4.
fn reachable(host: &str, port: u16, password: &str) -> SocketAddr {
    let named = (host, port).to_socket_addrs().into_iter().flatten().filter(SocketAddr::is_ipv4);
    let candidates: Vec<_> = iter::once((Ipv4Addr::LOCALHOST, port).into()).chain(named).collect();
    until(&format!("Redis answers at one of {candidates:?}"), || {
        let answers = |address: &&SocketAddr| {
            let client = Client::open(url(password, **address)).unwrap();
            command::<String>(&client, &["PING"]).is_ok()
        };
        candidates.iter().find(answers).copied().ok_or_else(|| "none of them does".to_owned())
    })
}

fn url(password: &str, address: SocketAddr) -> String {
    format!("redis://:{password}@{address}/")
}
