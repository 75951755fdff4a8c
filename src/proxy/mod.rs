//! Load balancer: which server answers, on which connection, with which head, and what happens when that fails.
//!
//! Everything here but the driver is pure: `now`, the state of the servers and the bytes come in, decisions and bytes
//! go out. One [`UpstreamState`] per data worker and upstream; workers share nothing
//! but the [`gate`] of servers with a limit and the idle connections in the [`exchange`].
//!
//! | part | decides |
//! |---|---|
//! | [`balance`] | which server gets the request |
//! | [`gate`] | how many requests a server has at once, and who waits |
//! | [`pool`] | which idle connection is used again, and how long one is kept |
//! | [`exchange`] | which idle connection of another data worker is |
//! | [`upstream`] | both together, for one upstream of one worker |
//! | [`head`] | the head sent to the server and the one sent back to the client |
//! | [`gateway`] | FastCGI, uwsgi and SCGI: requests and answers in their words |
//! | [`flows`] | which datagrams of UDP belong together |
//! | [`check`] | what a health check says, and whether the answer is a healthy one |
//! | [`health`] | whether a server counts as up, from the results of its checks |
//! | [`sticky`] | which server a client's cookie leads to |
//! | [`tiers`] | when an earlier tier of servers is used again |
//! | [`outlier`] | whether a server is ejected for a while, from what live traffic shows |
//! | [`availability`] | which servers get requests when few are left |
//! | [`retry`] | whether a failed request may be sent again, and where |
//! | [`retry_budget`] | how many requests may be |
//! | [`upgrade`] | whether a client and a server may leave HTTP for another protocol |

pub mod availability;
pub mod balance;
pub mod check;
pub mod exchange;
pub mod flows;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod gate;
pub mod gateway;
pub mod head;
pub mod health;
pub mod outlier;
pub mod pool;
pub mod retry;
pub mod retry_budget;
pub mod sticky;
pub mod tiers;
pub mod upgrade;
pub mod upstream;

pub use self::balance::{Ask, Balancer, Picked, Servers, Tried};
pub use self::pool::IdlePool;
pub use self::retry_budget::RetryBudget;
pub use self::upstream::{DataWorker, UpstreamState};
