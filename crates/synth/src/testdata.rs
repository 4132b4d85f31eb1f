//! The public reference files of the repository, for tests.

use crate::inputs::ReferenceInputs;

macro_rules! reference {
    ($file:literal) => {
        include_str!(concat!("../../../reference/", $file))
    };
}

/// The reference inputs as the product gives them.
pub(crate) fn inputs() -> ReferenceInputs<'static> {
    ReferenceInputs {
        municipal_population: reference!("population/vaesto_kunnittain_2000_2022.csv"),
        age_structure: reference!("population/vaesto_ika_sukupuoli_kunnittain_2018_2019.csv"),
        population_projection: reference!("population/vaestoennuste_2024_koko_maa_2024_2045.csv"),
        municipality_keys: reference!("regions/kunnat_hyvinvointialueittain_2022_2026.csv"),
        municipality_mergers: reference!("regions/kuntaliitokset.csv"),
        counties: reference!("regions/hyvinvointialueet.csv"),
        htas_budgets: reference!("finance/htas_talousarvio_toimintamenot_2023_2026.csv"),
        ktas_document: reference!("finance/valtiokonttori_ktas_sample_0101263-6_2023.csv"),
        price_index: reference!("finance/julkisten_menojen_hintaindeksi_2015_100.csv"),
        placed_children: reference!("sotkanet/sotkanet_3563_sijoitetut_lapset_2021_2024.csv"),
    }
}
