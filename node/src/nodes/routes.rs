//! The admin listener's resources for nodes and placement.

use actix_web::{HttpResponse, middleware, web};
use chat::errors::ErrorCode;
use chat::ids::NodeId;
use serde_json::json;

use super::NodesDesk;
use super::api::{Join, NewJoinToken, Place, Raise, Rebalance};
use crate::admin::{Refused, answer, recorded};

type Desk = web::Data<NodesDesk>;

/// Behind the admin token.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/join-tokens", web::post().to(join_token))
        .route("/join-tokens", web::delete().to(withdraw))
        .route("/level", web::put().to(raise))
        .route("/nodes/{node}", web::delete().to(remove))
        .route("/plan", web::get().to(plan))
        .route("/rebalance", web::post().to(rebalance))
        .route("/place", web::post().to(place));
}

/// Behind a join token's secret alone.
pub(crate) fn join_route(config: &mut web::ServiceConfig) {
    let join = web::resource("/v1/join").wrap(middleware::from_fn(recorded)).route(web::post().to(join));
    config.service(join);
}

async fn join_token(desk: Desk, wanted: web::Json<NewJoinToken>) -> HttpResponse {
    answer(desk.join_token(&wanted).await)
}

async fn join(desk: Desk, join: web::Json<Join>) -> HttpResponse {
    answer(desk.join(join.into_inner()).await)
}

async fn withdraw(desk: Desk) -> HttpResponse {
    answer(desk.withdraw_tokens().await.map(|()| json!({ "withdrawn": true })))
}

async fn raise(desk: Desk, raise: web::Json<Raise>) -> HttpResponse {
    answer(desk.raise(&raise).await.map(|()| json!({ "level": raise.level })))
}

async fn remove(desk: Desk, node: web::Path<NodeId>) -> HttpResponse {
    answer(desk.remove(node.into_inner()).await.map(|()| json!({ "leaving": true })))
}

async fn plan(desk: Desk) -> HttpResponse {
    answer(Ok::<_, Refused>(desk.plan()))
}

async fn rebalance(desk: Desk, wanted: web::Json<Rebalance>) -> HttpResponse {
    answer(desk.rebalance(&wanted).await.map(|()| json!({ "rebalancing": true })))
}

async fn place(desk: Desk, place: web::Json<Place>) -> HttpResponse {
    if place.voters.is_empty() {
        return answer::<()>(Err(Refused::new(ErrorCode::InvalidField, "voters: at least one")));
    }
    answer(desk.place(place.into_inner()).await.map(|()| json!({ "placed": true })))
}
