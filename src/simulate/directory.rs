//! Asks one replica after another for the users to simulate.

use std::time::Duration;

use tokio::time::sleep;
use url::Url;

use crate::client::api::{self, ApiError};
use crate::model::UserName;

const ROUNDS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// The maximum number of simulated users. They come first in the list of users; the remaining users are for people.
const SIMULATED: usize = 60;

pub(super) async fn users(urls: &[Url]) -> Result<Vec<UserName>, ApiError> {
    let mut last = ApiError::NoUrl;
    for round in 0..ROUNDS {
        if round > 0 {
            sleep(PAUSE).await;
        }
        for url in urls {
            match api::users(url).await {
                Ok(users) => return Ok(users.into_iter().take(SIMULATED).map(|user| user.name).collect()),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}
