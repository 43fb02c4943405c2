//! Object definitions.

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::access::{Caller, Role};
use super::devices::bad_query;
use super::error::{Answer, ApiError, json};
use super::state::Shared;
use crate::lwm2m::model::{ObjectDefinition, ResourceDefinition};

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Objects {
    objects: Vec<Object>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Object {
    id: u16,
    name: String,
    version: String,
    instances: &'static str,
    mandatory: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ObjectDetail)]
pub(super) struct Detail {
    #[serde(flatten)]
    object: Object,
    /// Known versions.
    versions: Vec<String>,
    resources: Vec<Resource>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Resource {
    id: u16,
    name: String,
    operations: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    multiple: bool,
    mandatory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    units: Option<String>,
}

impl From<&ObjectDefinition> for Object {
    fn from(object: &ObjectDefinition) -> Self {
        Self {
            id: object.id,
            name: object.name.clone(),
            version: object.version.to_string(),
            instances: if object.multiple {
                "multiple"
            } else {
                "single"
            },
            mandatory: object.mandatory,
        }
    }
}

impl From<&ResourceDefinition> for Resource {
    fn from(resource: &ResourceDefinition) -> Self {
        let can = resource.operations;
        let letters = [(can.read, 'R'), (can.write, 'W'), (can.execute, 'E')];
        let letters = letters.into_iter().filter(|(can, _)| *can);
        Self {
            id: resource.id,
            name: resource.name.clone(),
            operations: letters.map(|(_, letter)| letter).collect(),
            kind: resource.kind.map(|kind| kind.name()),
            multiple: resource.multiple,
            mandatory: resource.mandatory,
            units: Some(resource.units.clone()).filter(|it| !it.is_empty()),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionQuery {
    /// A version such as `1.1`; default: the newest.
    version: Option<String>,
}

/// `GET /v1/objects`: the known object definitions.
#[utoipa::path(
    get, path = "/v1/objects", tag = "objects",
    responses(
        (status = 200, body = Objects, description = "objects"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn list(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    caller.needs(Role::Read)?;
    let models = shared.backend.models().ok_or_else(ApiError::unavailable)?;
    let objects = models.objects().map(Object::from).collect();
    Ok(json(StatusCode::OK, &Objects { objects }))
}

/// `GET /v1/objects/{id}`: the definition of an object.
#[utoipa::path(
    get, path = "/v1/objects/{id}", tag = "objects",
    params(("id" = u16, Path, description = "object id"), VersionQuery),
    responses(
        (status = 200, body = Detail, description = "the definition"),
        (status = 400, body = ApiError, description = "the request is malformed"),
        (status = 401, body = ApiError, description = "the token or password is missing or wrong"),
        (status = 404, body = ApiError, description = "there is no definition of this object"),
        (status = 503, body = ApiError, description = "the gateway is stopping or overloaded"),
    )
)]
pub(super) async fn show(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<u16>, PathRejection>,
    query: Result<Query<VersionQuery>, QueryRejection>,
) -> Answer {
    caller.needs(Role::Read)?;
    let unknown = || {
        let detail = "there is no definition of this object";
        ApiError::new(StatusCode::NOT_FOUND, "unknown_object", detail)
    };
    let Path(id) = id.map_err(|_| unknown())?;
    let Query(query) = query.map_err(|it| bad_query(&it.body_text()))?;
    let models = shared.backend.models().ok_or_else(ApiError::unavailable)?;
    let wanted = |object: &&ObjectDefinition| {
        let version = query.version.as_ref();
        version.is_none_or(|version| object.version.to_string() == *version)
    };
    let object = models.versions(id).rev().find(wanted);
    let object = object.ok_or_else(unknown)?;
    let detail = Detail {
        object: object.into(),
        versions: models
            .versions(id)
            .map(|it| it.version.to_string())
            .collect(),
        resources: object.resources().iter().map(Into::into).collect(),
    };
    Ok(json(StatusCode::OK, &detail))
}
