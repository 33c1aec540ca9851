//! The series of this signal as they stand on the page.
//!
//! In: every series there is, once a tick. Out: families in the order of their names. What is not in the newest tick is not
//! on the page, so that nothing old is shown as if it were new. A scrape encodes what was published last and holds nobody up.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::families::Family;

/// Labels that every series of a GPU has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Row {
    pub gpu: Arc<str>,
    pub uuid: Arc<str>,
    pub name: Arc<str>,
}

/// The others, in order.
pub type More = Vec<(&'static str, Cow<'static, str>)>;

/// What a series says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Count(u64),
    Whole(i64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Count(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Count(value.into())
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Whole(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Count(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// All series of one tick.
#[derive(Debug, Default)]
pub struct Page(BTreeMap<&'static str, (&'static Family, Vec<Series>)>);

#[derive(Debug)]
struct Series {
    row: Option<Arc<Row>>,
    more: More,
    value: Value,
}

impl Page {
    /// Adds a series of a GPU, where it has a value.
    pub fn add(&mut self, family: &'static Family, row: &Arc<Row>, value: Option<impl Into<Value>>) {
        self.add_with(family, row, Vec::new(), value);
    }

    /// With more labels.
    pub fn add_with(
        &mut self,
        family: &'static Family,
        row: &Arc<Row>,
        more: More,
        value: Option<impl Into<Value>>,
    ) {
        if let Some(value) = value {
            self.push(family, Series { row: Some(row.clone()), more, value: value.into() });
        }
    }

    /// Adds a series of the node.
    pub fn add_of_node(&mut self, family: &'static Family, more: More, value: impl Into<Value>) {
        self.push(family, Series { row: None, more, value: value.into() });
    }

    fn push(&mut self, family: &'static Family, series: Series) {
        self.0.entry(family.name).or_insert_with(|| (family, Vec::new())).1.push(series);
    }
}

/// The newest page, shared with the scrape.
#[derive(Clone, Debug, Default)]
pub struct Newest(Arc<Mutex<Arc<Page>>>);

impl Newest {
    pub fn publish(&self, page: Page) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(page);
    }
}

impl Collector for Newest {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let page = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (family, series) in page.0.values() {
            let unit = family.unit();
            let mut of_family =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), family.kind)?;
            for one in series {
                let more = one.more.as_slice();
                match one.row.as_deref() {
                    Some(row) => one.encode(of_family.encode_family(&(row.clone(), more))?, family.kind)?,
                    None => one.encode(of_family.encode_family(&more)?, family.kind)?,
                }
            }
        }
        Ok(())
    }
}

impl Series {
    fn encode(&self, mut encoder: MetricEncoder<'_>, kind: MetricType) -> Result<(), Error> {
        match (kind, self.value) {
            (MetricType::Counter, Value::Count(value)) => {
                encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None)
            }
            (MetricType::Counter, Value::Real(value)) => {
                encoder.encode_counter::<NoLabelSet, f64, f64>(&value, None)
            }
            (_, Value::Count(value)) => encoder.encode_gauge(&value),
            (_, Value::Whole(value)) => encoder.encode_gauge(&value),
            (_, Value::Real(value)) => encoder.encode_gauge(&value),
        }
    }
}
