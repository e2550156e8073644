//! The travel agent: estimates the price of a trip, asks for confirmation, and books the trip. Never books without
//! consent.

use rmcp::model::{CallToolResult, ElicitationSchema, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::demo::call::{DemoCall, ToolQuestion, ToolStop, describe_tool, tool_result};
use crate::demo::effects::EffectLog;
use crate::demo::fingerprint::fingerprint;

/// The default delay before each progress step, so that a person can see the steps.
const STEP_DELAY_MS: u64 = 150;

/// The trip to book.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BookTripArguments {
    /// The city to travel to.
    #[schemars(length(min = 1))]
    pub(super) city: String,
    /// The number of nights, from 1 to 30. Defaults to 3.
    #[serde(default = "default_nights")]
    #[schemars(range(min = 1, max = 30))]
    pub(super) nights: u32,
    /// The city of departure. With it, the price includes the round trip.
    #[serde(default)]
    pub(super) from: Option<String>,
    /// The maximum price of the trip in euros. The best stay within it is offered.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub(super) budget: Option<f64>,
    /// The delay before each progress step, in milliseconds. Defaults to 150.
    #[serde(default)]
    pub(super) delay_ms: Option<u64>,
}

pub(super) fn default_nights() -> u32 {
    3
}

/// The answer of the person.
#[derive(Debug, Deserialize)]
struct Confirmation {
    confirm: bool,
    #[serde(default)]
    notes: String,
}

/// The outcome of the request.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Booking {
    /// Whether the trip is booked.
    status: BookingStatus,
    /// The city of the stay.
    city: String,
    /// The number of nights.
    nights: u32,
    /// The kind of stay that was offered.
    stay: String,
    /// The total price.
    price: u32,
    /// The currency of the price.
    currency: String,
    /// The booking number. Present only if the trip is booked.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmation: Option<String>,
    /// The notes for the hotel.
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
    /// The reason why the trip is not booked.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum BookingStatus {
    Booked,
    Cancelled,
}

/// Returns the tools of the agent.
pub(crate) fn tools() -> Vec<Tool> {
    vec![describe_tool::<BookTripArguments, Booking>(
        "book_trip",
        "Book a trip",
        "Estimates a trip to a city, asks the person to confirm the price, and books it. An unconfirmed trip is \
         cancelled, which is a normal result. Nothing leaves this machine.",
        ToolAnnotations::new().read_only(false).destructive(false).idempotent(false),
    )]
}

/// An offer for a trip, which is deterministic for the same arguments.
struct TripOffer {
    stay: &'static str,
    price: u32,
    over_budget: bool,
    /// The ID by which the client refers to the offer.
    number: String,
}

impl TripOffer {
    fn new(arguments: &BookTripArguments) -> Self {
        let city = arguments.city.trim().to_lowercase();
        let nightly = 70 + u32::from(fingerprint(&[&city]) as u8) / 3;
        let journey = arguments
            .from
            .as_deref()
            .map_or(0, |from| 90 + u32::from(fingerprint(&[&from.trim().to_lowercase(), &city]) as u8));
        // The prices in percent of the usual price, best stay first.
        let stays = [("grand hotel", 180), ("hotel", 100), ("guest house", 70)];
        let price = |percent: u32| journey + arguments.nights * nightly * percent / 100;
        let fits = |percent: u32| arguments.budget.is_some_and(|budget| f64::from(price(percent)) <= budget);
        let (stay, percent) = match arguments.budget {
            None => stays[1],
            Some(_) => stays.into_iter().find(|(_, percent)| fits(*percent)).unwrap_or(stays[2]),
        };
        let price = price(percent);
        let number = fingerprint(&[&city, &arguments.nights.to_string(), stay, &price.to_string()]);
        Self {
            stay,
            price,
            over_budget: arguments.budget.is_some() && !fits(percent),
            number: format!("{number:016x}"),
        }
    }
}

/// Executes `book_trip`.
pub(crate) async fn book_trip(call: &DemoCall, effects: &EffectLog) -> Result<CallToolResult, ToolStop> {
    book(call, effects, &call.arguments()?).await
}

/// Estimates the trip, asks the person, and books it.
pub(super) async fn book(
    call: &DemoCall,
    effects: &EffectLog,
    arguments: &BookTripArguments,
) -> Result<CallToolResult, ToolStop> {
    let city = arguments.city.trim();
    if city.is_empty() {
        return Err(ToolStop::Failed("`city` is empty: expected a city".into()));
    }
    if !(1..=30).contains(&arguments.nights) {
        return Err(ToolStop::Failed(format!("`nights` is {}: expected 1 to 30", arguments.nights)));
    }
    let nights = arguments.nights;
    let delay = arguments.delay_ms.unwrap_or(STEP_DELAY_MS);
    let offer = TripOffer::new(arguments);

    if !call.is_continued() {
        call.pause(delay).await?;
        call.progress(25.0, format!("looking for a place to stay in {city}")).await;
        call.pause(delay).await?;
        call.progress(50.0, format!("found a {} for {nights} nights: {} EUR", offer.stay, offer.price)).await;
    }

    let budget = if offer.over_budget { ", which is more than the budget" } else { "" };
    let message =
        format!("Book {nights} nights in a {} in {city} for an estimated {} EUR{budget}?", offer.stay, offer.price);
    let answer = call.elicit(ToolQuestion { key: "confirm", state: &offer.number }, message, form()).await?;
    let (notes, reason) = match answer {
        Ok(Confirmation { confirm: true, notes }) => (notes, None),
        Ok(Confirmation { confirm: false, notes }) => (notes, Some("the price was not confirmed")),
        Err(reason) => (String::new(), Some(reason)),
    };

    call.pause(delay).await?;
    call.progress(75.0, if reason.is_none() { "booking the trip" } else { "discarding the offer" }).await;
    call.pause(delay).await?;
    let confirmation = reason.is_none().then(|| format!("TRIP-{}", offer.number[..8].to_uppercase()));
    if confirmation.is_some() {
        effects.record(call).await?;
    }
    let (status, text) = match (&confirmation, reason) {
        (Some(confirmation), _) => (
            BookingStatus::Booked,
            format!("Booked {nights} nights in a {} in {city} for {} EUR: {confirmation}.", offer.stay, offer.price),
        ),
        (None, reason) => (
            BookingStatus::Cancelled,
            format!("Cancelled the trip to {city}: {}. Nothing was booked.", reason.unwrap_or_default()),
        ),
    };
    call.progress(100.0, if confirmation.is_some() { "booked" } else { "cancelled" }).await;
    let booking = Booking {
        status,
        city: city.to_owned(),
        nights,
        stay: offer.stay.to_owned(),
        price: offer.price,
        currency: "EUR".to_owned(),
        confirmation,
        notes: (!notes.is_empty()).then_some(notes),
        reason: reason.map(str::to_owned),
    };
    tool_result(text, &booking)
}

/// Returns the form `{confirm: boolean, notes: string}`.
fn form() -> ElicitationSchema {
    ElicitationSchema::builder()
        .required_bool_property("confirm", |field| field.title("Book it").description("Whether to book at this price"))
        .string_property("notes", |field| field.title("Notes").description("Notes for the hotel"))
        .build()
        .expect("every required property is one of the properties")
}
