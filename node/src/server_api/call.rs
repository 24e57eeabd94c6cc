//! One request of a backend: who asks, whether it may, and how what it wants is done. It goes the way that a session's request
//! goes: the group actor admits it, Raft commits it.

use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, USER_AGENT};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, web};
use chat::app::{Scope, is_system};
use chat::command::{Command, Outcome, UserCommand};
use chat::errors::ErrorCode;
use chat::ids::{AppId, ConversationId, KeyId, ShardId, UserId};
use chat::limits;
use chat::state::record::{Account, App};
use chat::state::{apps, query};
use cluster::{Proposed, ShardView};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use storage::StorageError;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::problem::Problem;
use crate::apps::secret::ApiSecret;
use crate::group::{GroupAsk, GroupDone, GroupFailure, Reply, Turn};
use crate::router::{ATTEMPT, Letter, again, soften};
use crate::security::record::{Administration, AdministrationResult, bounded};
use crate::session::Services;
use crate::socket::unix_ms;

/// Requests of backends take turns as sessions do, spread over so many: few enough that group actors need not forget those of
/// clients for them.
const TURNS: u64 = 64;

/// What all requests of a node share.
pub(crate) struct Api {
    pub(super) services: Arc<Services>,
    limiter: DefaultKeyedRateLimiter<KeyId>,
    places: Semaphore,
    /// Of this node's turns.
    origin: Uuid,
    asked: AtomicU64,
}

/// A request that was let in.
#[derive(Clone)]
pub(crate) struct Call {
    pub(super) api: Arc<Api>,
    pub(super) app: AppId,
    pub(super) record: Arc<App>,
    key: KeyId,
    scopes: Arc<[Scope]>,
    until: Instant,
    from: (IpAddr, u16),
    user_agent: String,
}

impl Api {
    pub(crate) fn new(services: Arc<Services>) -> Self {
        let per_second = limits::API_REQUESTS_PER_S.try_into().expect("the limit is not zero");
        let burst = limits::API_BURST.try_into().expect("the limit is not zero");
        let limiter = RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst));
        let places = Semaphore::new(limits::API_AT_ONCE);
        Self { services, limiter, places, origin: Uuid::now_v7(), asked: AtomicU64::new(0) }
    }

    /// Who it is that asks. Whatever is wrong with the key, the answer is the same.
    async fn caller(self: &Arc<Self>, request: &HttpRequest) -> Result<Call, Problem> {
        let bad = || Problem::from(ErrorCode::BadApiKey);
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).and_then(ApiSecret::parse).ok_or_else(bad)?;
        let cluster = &self.services.cluster;
        // A key that was revoked a moment ago on another node is good for nothing any more.
        cluster.read_barrier(ShardId::META).await?;
        let meta = cluster.view(ShardId::META).ok_or(ErrorCode::Internal)?;
        let key = apps::api_key(&meta, &given.id).map_err(unreadable)?.filter(|key| given.is_of(&key.hash));
        let key = key.filter(|key| key.expires_ms.is_none_or(|at_ms| at_ms > unix_ms())).ok_or_else(bad)?;
        let record = query::app(&meta, &key.app).map_err(unreadable)?.ok_or_else(bad)?;
        self.spend(&given.id)?;
        if record.frozen {
            return Err(ErrorCode::AppFrozen.into());
        }
        let from = request.peer_addr();
        let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(Call {
            api: self.clone(),
            app: key.app,
            record: Arc::new(record),
            key: given.id,
            scopes: key.scopes.into(),
            until: Instant::now() + Duration::from_millis(limits::REQUEST_TIMEOUT_MS),
            from: from.map_or((Ipv4Addr::UNSPECIFIED.into(), 0), |from| (from.ip(), from.port())),
            user_agent: bounded(agent, limits::USER_AGENT_BYTES),
        })
    }

    fn spend(&self, key: &KeyId) -> Result<(), Problem> {
        // Those of keys that are long gone, too.
        if self.limiter.len() > limits::APPS * limits::API_KEYS {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(key).map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            Problem::from(ErrorCode::RateLimited).after(wait_ms)
        })
    }
}

/// Lets a request in, or not, before anything of its body is read; and ends it when its time is over.
pub(super) async fn admitted(
    api: web::Data<Api>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let api = api.into_inner();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let deadline = Instant::now() + Duration::from_millis(limits::REQUEST_TIMEOUT_MS + limits::PEER_TIMEOUT_MS);
    let Ok(_place) = api.places.try_acquire() else { return Err(Problem::from(ErrorCode::Overloaded).into()) };
    let served = async {
        let call = api.caller(request.request()).await?;
        request.extensions_mut().insert(call);
        Ok(next.call(request).await?.map_into_boxed_body())
    };
    match timeout_at(deadline, served).await {
        Ok(answer) => answer,
        Err(_) if reads => Err(Problem::from(ErrorCode::Unavailable).into()),
        Err(_) => Err(Problem::from(ErrorCode::OutcomeUnknown).into()),
    }
}

impl FromRequest for Call {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // Nobody comes here but through the gate above.
        ready(request.extensions().get::<Self>().cloned().ok_or_else(|| ErrorCode::BadApiKey.into()))
    }
}

/// A fault of the service: the reason is for the log. What is being repaired can be read soon.
pub(super) fn unreadable(error: StorageError) -> Problem {
    if error.is_repairable() {
        return ErrorCode::Unavailable.into();
    }
    tracing::error!(event = "api_read_failed", %error, "a backend's read failed");
    ErrorCode::Internal.into()
}

/// Storage is read on the blocking pool.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(ErrorCode::Internal.into()))
}

impl Call {
    pub(super) fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    pub(super) fn services(&self) -> &Services {
        &self.api.services
    }

    /// Refuses what the key is not good for.
    pub(super) fn may(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::MissingScope, format!("the API key is not good for {}", scope.name())))
    }

    /// The replica of a shard, once it has everything that was committed before the request.
    pub(super) async fn fresh(&self, shard: ShardId) -> Result<ShardView, Problem> {
        let cluster = &self.services().cluster;
        cluster.read_barrier(shard).await?;
        cluster.view(shard).ok_or_else(|| ErrorCode::Internal.into())
    }

    pub(super) async fn fresh_home(&self, user: &UserId) -> Result<ShardView, Problem> {
        self.fresh(self.services().cluster.home_shard(&self.app, user)).await
    }

    pub(super) async fn fresh_conversation(&self, conversation: &ConversationId) -> Result<ShardView, Problem> {
        self.fresh(self.services().cluster.conversation_shard(&self.app, conversation)).await
    }

    /// The user's account, and whether the user is let in.
    pub(super) async fn account(&self, user: &UserId) -> Result<(Account, bool), Problem> {
        let view = self.fresh_home(user).await?;
        let account = query::account(&view, &self.app, user).map_err(unreadable)?.ok_or(ErrorCode::UserNotFound)?;
        Ok((account, !apps::is_deactivated(&view, &self.app, user).map_err(unreadable)?))
    }

    /// Whether something can be done as this user: the app itself, or somebody who is let in.
    pub(super) async fn may_act_as(&self, user: &UserId) -> Result<(), Problem> {
        if is_system(user) {
            return Ok(());
        }
        match self.account(user).await? {
            (_, true) => Ok(()),
            (_, false) => Err(ErrorCode::UserDeactivated.into()),
        }
    }

    /// Asks the conversation's group actor, as a session of `actor` does.
    pub(super) async fn ask(
        &self,
        conversation: ConversationId,
        actor: UserId,
        ask: GroupAsk,
    ) -> Result<GroupDone, Problem> {
        let router = &self.services().router;
        let ticket = self.api.asked.fetch_add(1, Ordering::Relaxed);
        let session = Uuid::from_u128(self.api.origin.as_u128().wrapping_add(u128::from(ticket % TURNS)));
        let idempotent = ask.idempotent();
        let turn = Turn { session, ticket, after: None };
        let letter = Letter { app: self.app.clone(), conversation, actor, ask, turn };
        let (sender, answer) = oneshot::channel();
        // Whoever asks may have given up.
        router.post_to_leader(letter.clone(), Reply::new(|answer| _ = sender.send(answer)));
        let patience = if idempotent { self.until.min(Instant::now() + ATTEMPT) } else { self.until };
        let answer = match timeout_at(patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(GroupFailure::Unknown),
        };
        let answer = match answer {
            Err(failure) if again(failure, idempotent) => {
                let maybe_happened = failure == GroupFailure::Unknown;
                router.insist(letter, self.until, maybe_happened).await.map_err(|last| soften(last, maybe_happened))
            }
            answer => answer,
        };
        answer.map_err(Problem::from)
    }

    /// A command about a user's account. True if it was so already.
    pub(super) async fn change_user(&self, user: UserId, command: UserCommand) -> Result<bool, Problem> {
        let cluster = &self.services().cluster;
        let shard = cluster.home_shard(&self.app, &user);
        let command = Command::User { app: self.app.clone(), user, command };
        match cluster.submit(shard, command).await? {
            Proposed { outcome: Outcome::Applied { duplicate, .. }, .. } => Ok(duplicate),
            Proposed { outcome: Outcome::Rejected(code), .. } => Err(code.into()),
        }
    }

    /// Writes an act on accounts down in the security log, before it is done; one that cannot be written down is not done.
    pub(super) async fn record(&self, verb: &str, subject: &str) -> Result<(), Problem> {
        let administration = Administration {
            act: Uuid::now_v7(),
            by: format!("api key {} of app {}", self.key, self.app),
            ip: self.from.0,
            port: self.from.1,
            user_agent: self.user_agent.clone(),
            verb: verb.to_owned(),
            subject: bounded(subject, limits::ACT_SUBJECT_BYTES),
            result: AdministrationResult::Asked,
        };
        self.services().security.administration(administration).await.map_err(|_| {
            Problem::new(ErrorCode::Unavailable, "what cannot be written into the security log is not done")
        })
    }
}
