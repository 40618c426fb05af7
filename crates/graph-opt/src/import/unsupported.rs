//! Primitives that have no lowering, and what to export instead.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a network can use in place of a primitive that is carried verbatim: the nearest that is evaluated.
pub fn alternative(primitive: &str) -> Option<&'static str> {
    static INDEX: LazyLock<HashMap<&str, &'static str>> = LazyLock::new(|| {
        let pairs =
            UNSUPPORTED.iter().flat_map(|(instead, names)| names.iter().map(|name| (*name, *instead)));
        pairs.collect()
    });
    INDEX.get(primitive).copied()
}

/// Primitives of MindSpore 2.10 that a network for inference may have, by what takes their place.
#[rustfmt::skip]
const UNSUPPORTED: &[(&str, &[&str])] = &[
    ("StandardNormal, UniformReal, UniformInt or Multinomial", &[
        "Bernoulli", "BernoulliExt", "Cauchy", "DropoutDoMaskExt", "DropoutGenMaskExt", "Gamma",
        "InplaceBernoulliScalar", "InplaceBernoulliTensor", "InplaceExponential", "InplaceNormal",
        "InplaceRandom", "InplaceUniform", "LogNormalReverse", "MultinomialExt", "MultinomialWithReplacement",
        "NonDeterministicInts", "NormalFloatFloat", "NormalFloatTensor", "NormalTensorFloat",
        "NormalTensorTensor", "ParameterizedTruncatedNormal", "Poisson", "RandExt", "RandInt", "RandIntLike",
        "RandLikeExt", "Randn", "RandnLike", "RandomCategorical", "RandomChoiceWithMask", "RandomGamma",
        "RandomPoisson", "RandomShuffle", "Randperm", "RandpermExt", "RandpermV2", "TruncatedNormal",
        "UniformExt",
    ]),
    ("RFFT over frames of the signal", &[
        "STFT",
    ]),
    ("Cholesky, MatrixInverse or MatrixSolve", &[
        "Eig", "Eigh", "Geqrf", "LinalgQr", "Lstsq", "LstsqV2", "Lu", "LuSolve", "LuUnpack", "MatrixExp",
        "MatrixLogarithm", "MatrixSolveLs", "NuclearNorm", "Orgqr", "Ormqr", "Qr", "SelfAdjointEig", "Svd",
        "TridiagonalMatMul", "TridiagonalSolve",
    ]),
    ("SmoothL1Loss, NLLLoss or BCEWithLogitsLoss", &[
        "CTCLoss", "CTCLossV2", "MultiMarginLoss", "MultilabelMarginLoss", "RNNTLoss", "TripletMarginLoss",
    ]),
    ("RotaryPositionEmbedding", &[
        "DynamicNTK",
    ]),
    ("PromptFlashAttention or IncreFlashAttention", &[
        "RingAttentionUpdate", "SpeedFusionAttention",
    ]),
    ("PagedAttention", &[
        "Mla", "MlaPreprocess", "PagedAttentionMask",
    ]),
    ("FlashAttentionScore", &[
        "LightningIndexer", "MultiScaleDeformableAttn", "NsaCompress", "NsaCompressAttention",
        "NsaSelectAttention", "SparseFlashAttention",
    ]),
    ("MoeTokenPermute and BatchMatMul over all experts", &[
        "Gmm", "GmmV2", "GroupedMatmul", "GroupedMatmulV2", "GroupedMatmulV4", "InplaceGroupedMatmulAdd",
    ]),
    ("MoeGatingTopKSoftmax, MoeTokenPermute and MoeTokenUnpermute", &[
        "FusedAddTopKDiv", "GroupTopk", "MoeDistributeCombine", "MoeDistributeDispatch", "MoeInitRoutingV2",
        "TopKRouter", "TopPRouter",
    ]),
    ("DynamicQuantExt, Swiglu and QuantMatmul", &[
        "Dequant", "DequantSwigluQuant", "DynamicBlockQuant", "QuantLinearSparse",
    ]),
    ("ReshapeAndCache or KVCacheScatterUpdate", &[
        "KVCacheMgr", "KvScaleCache", "UpdateCache",
    ]),
    ("LSTM or DynamicGRUV2", &[
        "CudnnGRU", "GRUV2", "LSTMV2",
    ]),
    ("ROIAlign or CropAndResize", &[
        "ExtractGlimpse", "PSROIPooling", "PsROIPooling",
    ]),
    ("NMSWithMask", &[
        "CombinedNonMaxSuppression", "NonMaxSuppressionV3", "NonMaxSuppressionWithOverlaps", "RotatedIou",
    ]),
    ("ResizeBilinearV2 or ResizeNearestNeighborV2", &[
        "ParallelResizeBilinear", "ResizeArea", "ResizeV2", "ScaleAndTranslate",
    ]),
    ("GridSampler2D", &[
        "DeformableOffsets", "GridSampler3D",
    ]),
    ("MaxPool, MaxPool3D or MaxUnpool2D", &[
        "FractionalAvgPool", "FractionalMaxPool", "FractionalMaxPool3DWithFixedKsize",
        "FractionalMaxPoolWithFixedKsize", "MaxPool3DWithArgmax", "MaxUnpool2DExt",
    ]),
    ("Conv2D", &[
        "ConvTbc", "DepthwiseConv2dNative", "Dilation2D", "ExtractVolumePatches",
    ]),
    ("Lgamma, Digamma, Erf, Exp or Log", &[
        "BesselY0", "BesselY1", "Betainc", "Igamma", "Igammac", "Polygamma", "Zeta",
    ]),
    ("StridedSlice with constant bounds", &[
        "GetitemTensorIndexInfo", "SetitemTensorIndexInfo", "SliceToIndices",
    ]),
    ("MatMul, Gather and ScatterNd of dense tensors", &[
        "COO2CSR", "CSR2COO", "CSRDiv", "CSRGather", "CSRMM", "CSRMV", "CSRMul", "CSRReduceSum", "Coalesce",
        "SparseAdd", "SparseAddmm", "SparseConcat", "SparseReorder", "SparseReshape", "SparseSlice",
        "SparseSoftmax", "SparseTensorDenseAdd", "SparseTensorDenseMatmul", "SparseToDense", "SparseToDenseV2",
    ]),
    ("ReduceSum over comparisons", &[
        "BincountExt",
    ]),
    ("BatchNorm", &[
        "BatchNormElemt", "BatchNormGatherStatsWithCounts", "BatchNormStats", "FusedBatchNormEx",
        "SyncBatchNorm",
    ]),
    ("Reshape and Transpose", &[
        "AsStrided", "FormatCast", "TransShape", "ViewDtype",
    ]),
];

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    /// The page as it should be.
    fn page() -> String {
        let mut page = String::from(
            "# Primitives\n\nWhat the import knows of MindSpore's primitives. A test keeps this page in step with the \
             code: `import/table.rs` and `import/unsupported.rs`.\n\n## With a lowering\n\n",
        );
        let mut names: Vec<&str> = table::names().collect();
        names.sort_unstable();
        page.push_str(&listed(&names));
        page.push_str(
            "\n## Carried verbatim\n\nThese are `Opaque`: a backend may know them; the CPU refuses them, and names \
             what to use instead. Primitives in neither table, among them those of training, are carried, too.\n\n\
             | Use instead | Of |\n|---|---|\n",
        );
        for (instead, names) in UNSUPPORTED {
            page.push_str(&format!("| {instead} | {} |\n", listed(names).trim_end()));
        }
        page
    }

    fn listed(names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("{}\n", names.join(", "))
    }

    #[test]
    fn the_page_agrees_with_the_tables() {
        let page = page();
        assert!(page == include_str!("../../docs/primitives.md"), "docs/primitives.md should be:\n{page}");
    }

    #[test]
    fn what_is_carried_has_no_lowering() {
        for (instead, names) in UNSUPPORTED {
            for name in *names {
                assert!(table::find(name).is_none(), "{name} has a lowering");
                assert_eq!(alternative(name), Some(*instead));
            }
        }
    }

    #[test]
    fn alternatives_have_a_lowering() {
        for (instead, _) in UNSUPPORTED {
            let words = instead.split(|c: char| !c.is_ascii_alphanumeric());
            let named: Vec<&str> =
                words.filter(|word| word.starts_with(|c: char| c.is_uppercase())).collect();
            assert!(!named.is_empty(), "{instead} names no primitive");
            for name in named {
                assert!(table::find(name).is_some(), "{name} has no lowering");
            }
        }
    }

    #[test]
    fn each_primitive_stands_once() {
        let mut names: Vec<&str> = table::names().collect();
        names.extend(UNSUPPORTED.iter().flat_map(|(_, names)| *names));
        names.sort_unstable();
        for pair in names.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
    }
}
