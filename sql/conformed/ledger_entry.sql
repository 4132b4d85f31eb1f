-- grain: one row per account, cost centre, service class, month, scenario and version
-- key: county_code, account, cost_centre, service_class, month_start, scenario, version
-- stored: month_start, cost_centre, account
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: month_start -> reference.calendar(date)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column amount_cents: as booked, in cents: debit positive, credit negative
-- column account_group: group of the account
-- column account_class: income, expense, internal or depreciation
-- column month_start: first day of the month
-- column scenario: actual, budget and so on
-- `amount_cents` is as booked: debit positive, credit negative, so income is
-- negative. `account` and `service_class` stay codes; their groups give the meaning.
SELECT
    s.county_code,
    s.period,
    s.delivery_id,
    s.account,
    account.maps_to AS account_group,
    CASE
        WHEN account.maps_to IN ('sales_income', 'client_fees', 'grants_received', 'other_income') THEN 'income'
        WHEN account.maps_to = 'internal_income' THEN 'internal_income'
        WHEN account.maps_to = 'internal_expenses' THEN 'internal_expense'
        WHEN account.maps_to = 'depreciation' THEN 'depreciation'
        WHEN account.maps_to IS NOT NULL THEN 'expense'
    END AS account_class,
    s.cost_centre,
    s.service_class,
    coalesce(task.maps_to, 'unknown') AS task_group,
    s.month_start,
    coalesce(scenario.maps_to, 'unknown') AS scenario,
    s.version,
    s.amount_cents
FROM staging.finance_ledger AS s
LEFT JOIN reference.code AS scenario
    ON scenario.list = 'county.scenario'
    AND scenario.code = s.scenario
    AND (scenario.valid_from IS NULL OR scenario.valid_from <= s.month_start)
    AND (scenario.valid_to IS NULL OR s.month_start < scenario.valid_to)
LEFT JOIN reference.code AS account
    ON account.list = 'county.account'
    AND account.code = s.account
    AND (account.valid_from IS NULL OR account.valid_from <= s.month_start)
    AND (account.valid_to IS NULL OR s.month_start < account.valid_to)
LEFT JOIN reference.code AS task
    ON task.list = 'county.service_class'
    AND task.code = s.service_class
    AND (task.valid_from IS NULL OR task.valid_from <= s.month_start)
    AND (task.valid_to IS NULL OR s.month_start < task.valid_to)
