//! Functions that make more than they are given, within bounds.
//!
//! `range(1, 1000000000000)` or `repeat('x', 1000000000)` asks for memory in one step, before any
//! memory pool is asked, and when the machine has none the whole process ends, not the query. Here
//! each such function is put behind a guard that reckons from the arguments how much one call would
//! make and refuses what no table needs. To add a function, name it in [`guarded`] with its size.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use crate::error::EngineError;
