//! The common part of the fakes: an HTTP server that can go down and come up at the same address, and the calls that it
//! received, with the faults that a test has planned for them.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use tokio::{
    net::TcpSocket,
    task::{JoinError, JoinHandle},
};
use url::Url;

/// What a test does with each fake: the fakes dereference to it.
pub struct Fake<Call, Fault> {
    server: Server,
    traffic: Arc<Mutex<Traffic<Call, Fault>>>,
}

impl<Call: Clone, Fault> Fake<Call, Fault> {
    pub(crate) fn new(server: Server, traffic: Arc<Mutex<Traffic<Call, Fault>>>) -> Self {
        Self { server, traffic }
    }

    /// Goes down, keeping all that it knows: connections are refused from now on, and those that are open end with the
    /// call that they are in.
    pub async fn go_down(&self) -> io::Result<()> {
        self.server.go_down().await
    }

    /// Comes up again, at the same address.
    pub fn come_up(&self) -> io::Result<()> {
        self.server.come_up()
    }

    /// The calls that were received until now, those with faults included.
    pub fn calls(&self) -> Vec<Call> {
        self.traffic.lock().calls.clone()
    }

    /// Drops all faults that are planned, but for answers that are held back already.
    pub fn mend(&self) {
        self.traffic.lock().plans.clear();
    }

    /// Plans a fault, as [`Traffic::plan`].
    pub(crate) fn plan(
        &self,
        call: &str,
        times: Option<usize>,
        fault: impl FnMut() -> Option<Fault> + Send + 'static,
    ) {
        self.traffic.lock().plan(call, times, fault);
    }
}

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// In the place of a call's name: every call.
pub(crate) const EVERY_CALL: &str = "*";

/// An address that is taken: a socket that is bound and does not listen refuses connections.
pub(crate) struct Reserved {
    address: SocketAddr,
    socket: TcpSocket,
}

impl Reserved {
    /// Takes `address`, or with port 0 a free port of it.
    pub(crate) fn take(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // Connections of the time before do not keep the address.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self {
            address: socket.local_addr()?,
            socket,
        })
    }

    /// Takes a free port of this machine.
    pub(crate) fn take_any() -> io::Result<Self> {
        Self::take(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(crate) fn url(&self) -> io::Result<Url> {
        Url::parse(&format!("http://{}", self.address)).map_err(io::Error::other)
    }

    /// Serves `routes` there.
    pub(crate) fn serve(self, routes: Router) -> io::Result<Server> {
        let server = Server {
            address: self.address,
            routes,
            state: Mutex::new(State::Down(self)),
        };
        server.come_up()?;
        Ok(server)
    }
}

/// An HTTP server; it ends when this is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    routes: Router,
    state: Mutex<State>,
}

enum State {
    Up(JoinHandle<io::Result<()>>),
    /// It keeps its address for later.
    Down(Reserved),
    /// Between the two.
    Changing,
}

impl Server {
    /// Refuses connections from now on. Those that are open end with the call that they are in.
    pub(crate) async fn go_down(&self) -> io::Result<()> {
        let before = std::mem::replace(&mut *self.state.lock(), State::Changing);
        let reserved = match before {
            State::Up(task) => {
                task.abort();
                // It always ends as aborted; then its socket is closed.
                let _: Result<io::Result<()>, JoinError> = task.await;
                Reserved::take(self.address)?
            }
            State::Down(reserved) => reserved,
            State::Changing => return Err(io::Error::other("the server is going down already")),
        };
        *self.state.lock() = State::Down(reserved);
        Ok(())
    }

    /// Serves again, at the same address.
    pub(crate) fn come_up(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        *state = match std::mem::replace(&mut *state, State::Changing) {
            State::Down(reserved) => {
                let listener = reserved.socket.listen(BACKLOG)?;
                let routes = self.routes.clone();
                State::Up(tokio::spawn(
                    async move { axum::serve(listener, routes).await },
                ))
            }
            other => other,
        };
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let State::Up(task) = &*self.state.lock() {
            task.abort();
        }
    }
}

/// The calls that were received, and the faults of those that will be.
pub(crate) struct Traffic<Call, Fault> {
    calls: Vec<Call>,
    plans: Vec<Plan<Fault>>,
}

struct Plan<Fault> {
    call: String,
    /// How many calls it is for; `None` is all of them.
    left: Option<usize>,
    fault: Box<dyn FnMut() -> Option<Fault> + Send>,
}

impl<Call, Fault> Default for Traffic<Call, Fault> {
    fn default() -> Self {
        Self {
            calls: Vec::new(),
            plans: Vec::new(),
        }
    }
}

impl<Call, Fault> Traffic<Call, Fault> {
    /// Records a call of this name. Returns the fault that is planned for it.
    pub(crate) fn received(&mut self, name: &str, call: Call) -> Option<Fault> {
        self.calls.push(call);
        let index = self
            .plans
            .iter()
            .position(|plan| plan.call == name || plan.call == EVERY_CALL)?;
        let plan = &mut self.plans[index];
        let fault = (plan.fault)();
        if let Some(left) = &mut plan.left {
            *left -= 1;
            if *left == 0 {
                self.plans.remove(index);
            }
        }
        fault
    }

    /// Plans a fault for the next `times` calls of this name, or for all of them. Plans are used in the order in which
    /// they were made.
    pub(crate) fn plan(
        &mut self,
        call: &str,
        times: Option<usize>,
        fault: impl FnMut() -> Option<Fault> + Send + 'static,
    ) {
        if times != Some(0) {
            self.plans.push(Plan {
                call: call.to_owned(),
                left: times,
                fault: Box::new(fault),
            });
        }
    }
}

/// An HTTP status; a number that HTTP does not have becomes 500.
pub(crate) fn status(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An answer that breaks off.
pub(crate) fn cut() -> Response {
    let cut = async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) };
    Body::from_stream(futures::stream::once(cut)).into_response()
}
