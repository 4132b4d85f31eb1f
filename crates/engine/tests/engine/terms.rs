//! What is late and what has outlived its retention, on 2025-06-01.

use arrow::array::{RecordBatch, new_null_array};

use crate::fixture::{Warehouse, day};

/// Lands deliveries of one row as (contract, county, period, first and last day covered).
async fn landed(deliveries: &[(&str, i32, i32, i32, i32)]) -> Warehouse {
    let warehouse = Warehouse::product();
    let options = warehouse.product_options();
    for (contract, county, period, first, last) in deliveries {
        let (_, schema) = options
            .raw_schemas
            .iter()
            .find(|(name, _)| name == contract)
            .unwrap();
        let columns = schema
            .fields()
            .iter()
            .map(|field| new_null_array(field.data_type(), 1))
            .collect();
        let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();
        warehouse
            .land(contract, *county, *period, (*first, *last), rows)
            .await;
    }
    warehouse
}

#[tokio::test]
async fn a_delivery_is_late_from_the_day_after_it_is_due() {
    let warehouse = landed(&[
        ("hr_absence", 7, 202_403, day(2024, 3, 1), day(2024, 3, 31)),
        ("hr_absence", 7, 202_401, day(2024, 1, 1), day(2024, 1, 31)),
        ("hr_absence", 8, 202_504, day(2025, 4, 1), day(2025, 4, 30)),
        // Due 25 days after the end of April and of May.
        (
            "finance_ledger",
            7,
            202_503,
            day(2025, 3, 1),
            day(2025, 3, 31),
        ),
        (
            "finance_ledger",
            8,
            202_504,
            day(2025, 4, 1),
            day(2025, 4, 30),
        ),
        (
            "hr_employment",
            7,
            202_300,
            day(2023, 1, 1),
            day(2023, 12, 31),
        ),
        (
            "hr_employment",
            8,
            202_400,
            day(2024, 1, 1),
            day(2024, 12, 31),
        ),
    ])
    .await;
    let status = warehouse.product_engine().await.status().await.unwrap();
    let told: Vec<String> = status
        .next_deliveries
        .iter()
        .map(|next| {
            format!(
                "{} {} after {}: {} due {}, {} late",
                next.contract,
                next.county,
                next.covers_to,
                next.next_period,
                next.due,
                next.days_late
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "finance_ledger 07 after 2025-03-31: 2025-04 due 2025-05-25, 7 late",
            "finance_ledger 08 after 2025-04-30: 2025-05 due 2025-06-25, 0 late",
            "hr_absence 07 after 2024-03-31: 2024-04 due 2024-05-10, 387 late",
            "hr_absence 08 after 2025-04-30: 2025-05 due 2025-06-10, 0 late",
            "hr_employment 07 after 2023-12-31: 2024 due 2025-01-31, 121 late",
            "hr_employment 08 after 2024-12-31: 2025 due 2026-01-31, 0 late",
        ]
    );
    assert_eq!(status.past_retention, []);
}

#[tokio::test]
async fn a_delivery_is_listed_when_its_retention_is_over_and_stays_where_it_is() {
    let warehouse = landed(&[
        ("hr_absence", 7, 202_003, day(2020, 3, 1), day(2020, 3, 31)),
        ("hr_absence", 7, 202_005, day(2020, 5, 1), day(2020, 5, 31)),
        ("hr_absence", 7, 202_006, day(2020, 6, 1), day(2020, 6, 30)),
        (
            "hr_employment",
            7,
            202_000,
            day(2020, 1, 1),
            day(2020, 12, 31),
        ),
    ])
    .await;
    let engine = warehouse.product_engine().await;
    let status = engine.status().await.unwrap();
    let told: Vec<String> = status
        .past_retention
        .iter()
        .map(|old| {
            format!(
                "{} to {}, kept until {}",
                old.delivery_id, old.covers_to, old.kept_until
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "hr_absence.07.202003.r1 to 2020-03-31, kept until 2025-03-31",
            "hr_absence.07.202005.r1 to 2020-05-31, kept until 2025-05-31",
        ]
    );
    let again = engine.status().await.unwrap();
    assert_eq!(again.contracts.iter().map(|c| c.deliveries).sum::<i64>(), 4);
}
