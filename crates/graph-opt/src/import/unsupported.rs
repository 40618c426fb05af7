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
    ("take random numbers as an input of the network; MindSpore's sequences cannot be repeated bit for bit", &[
        "Bernoulli", "BernoulliExt", "Cauchy", "DropoutDoMaskExt", "DropoutGenMaskExt", "Gamma",
        "InplaceBernoulliScalar", "InplaceBernoulliTensor", "InplaceExponential", "InplaceNormal",
        "InplaceRandom", "InplaceUniform", "LogNormalReverse", "Multinomial", "MultinomialExt",
        "MultinomialWithReplacement", "NonDeterministicInts", "NormalFloatFloat", "NormalFloatTensor",
        "NormalTensorFloat", "NormalTensorTensor", "ParameterizedTruncatedNormal", "Poisson", "RandExt",
        "RandInt", "RandIntLike", "RandLikeExt", "Randn", "RandnLike", "RandomCategorical",
        "RandomChoiceWithMask", "RandomGamma", "RandomPoisson", "RandomShuffle", "Randperm", "RandpermExt",
        "RandpermV2", "StandardLaplace", "StandardNormal", "TruncatedNormal", "UniformExt", "UniformInt",
        "UniformReal",
    ]),
    ("MatMul by a matrix of cosines and one of sines", &[
        "DCT", "DCTN", "FFT", "FFT2", "FFTN", "FFTWithSize", "HFFT", "HFFT2", "HFFTN", "IDCT", "IDCTN",
        "IFFT", "IFFT2", "IFFTN", "IHFFT", "IHFFT2", "IHFFTN", "IRFFT", "IRFFT2", "IRFFTN", "RFFT", "RFFT2",
        "RFFTN", "STFT",
    ]),
    ("real and imaginary part as two tensors", &[
        "Angle", "Complex", "ComplexAbs", "Conj", "ConjugateTranspose", "Imag", "ImagView", "Polar",
        "RealView",
    ]),
    ("Cholesky, MatrixInverse or MatrixSolve", &[
        "Eig", "Eigh", "Geqrf", "LinalgQr", "Lstsq", "LstsqV2", "Lu", "LuSolve", "LuUnpack", "MatrixExp",
        "MatrixLogarithm", "MatrixSolveLs", "NuclearNorm", "Orgqr", "Ormqr", "Qr", "SelfAdjointEig", "Svd",
        "TridiagonalMatMul", "TridiagonalSolve",
    ]),
    ("the network without its loss", &[
        "BCEWithLogitsLoss", "BinaryCrossEntropy", "CTCLoss", "CTCLossV2", "CosineEmbeddingLoss",
        "CrossEntropyLoss", "KLDiv", "KLDivLoss", "L1LossExt", "L2Loss", "MSELossExt", "MultiMarginLoss",
        "MultilabelMarginLoss", "NLLLoss", "NLLLoss2d", "RNNTLoss", "SigmoidCrossEntropyWithLogits",
        "SmoothL1Loss", "SoftMarginLoss", "SoftmaxCrossEntropyWithLogits",
        "SparseSoftmaxCrossEntropyWithLogitsV2", "TripletMarginLoss",
    ]),
    ("RotaryPositionEmbedding", &[
        "ApplyRotaryPosEmb", "DynamicNTK",
    ]),
    ("PromptFlashAttention or IncreFlashAttention", &[
        "FusedInferAttentionScore", "RingAttentionUpdate", "SpeedFusionAttention",
    ]),
    ("PagedAttention", &[
        "Mla", "MlaPreprocess", "PagedAttentionMask",
    ]),
    ("FlashAttentionScore", &[
        "LightningIndexer", "MultiScaleDeformableAttn", "NsaCompress", "NsaCompressAttention",
        "NsaSelectAttention", "SparseFlashAttention",
    ]),
    ("BatchMatMul over all experts", &[
        "Gmm", "GmmV2", "GroupedMatmul", "GroupedMatmulV2", "GroupedMatmulV4", "InplaceGroupedMatmulAdd",
    ]),
    ("MatMul, the activation and MatMul", &[
        "FFN", "FFNExt",
    ]),
    ("MatMul and the collective", &[
        "AllGatherMatmul", "MatmulAllReduceAddRmsNorm", "MatmulReduceScatter",
    ]),
    ("MoeGatingTopKSoftmax, MoeTokenPermute and MoeTokenUnpermute", &[
        "FusedAddTopKDiv", "GroupTopk", "MoeComputeExpertTokens", "MoeDistributeCombine",
        "MoeDistributeDispatch", "MoeFinalizeRouting", "MoeInitRouting", "MoeInitRoutingV2", "TopKRouter",
        "TopPRouter",
    ]),
    ("DynamicQuantExt, Swiglu and QuantMatmul", &[
        "AntiQuant", "Dequant", "DequantSwigluQuant", "DynamicBlockQuant", "Quant", "QuantLinearSparse",
    ]),
    ("ReshapeAndCache or KVCacheScatterUpdate", &[
        "KVCacheMgr", "KvScaleCache", "UpdateCache",
    ]),
    ("LSTM of one layer, or the cells nn.LSTMCell, nn.GRUCell and nn.RNNCell", &[
        "BasicLSTMCell", "CudnnGRU", "DynamicGRUV2", "DynamicRNN", "GRUV2", "LSTMV2",
    ]),
    ("CropAndResize", &[
        "ExtractGlimpse", "PSROIPooling", "PsROIPooling", "ROIAlign",
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
    ("MaxPool or MaxPool3D", &[
        "FractionalAvgPool", "FractionalMaxPool", "FractionalMaxPool3DWithFixedKsize",
        "FractionalMaxPoolWithFixedKsize", "MaxPool3DWithArgmax", "MaxUnpool2D", "MaxUnpool2DExt",
        "MaxUnpool3D",
    ]),
    ("Conv2D", &[
        "ConvTbc", "DepthwiseConv2dNative", "Dilation2D", "ExtractVolumePatches",
    ]),
    ("Erf, Exp and Log", &[
        "BesselI0", "BesselI0e", "BesselI1", "BesselI1e", "BesselJ0", "BesselJ1", "BesselK0", "BesselK0e",
        "BesselK1", "BesselK1e", "BesselY0", "BesselY1", "Betainc", "Digamma", "Igamma", "Igammac", "Lgamma",
        "Mvlgamma", "Polygamma", "Zeta",
    ]),
    ("a slice with constant bounds", &[
        "GetitemTensorIndexInfo", "SetitemTensorIndexInfo", "SliceToIndices",
    ]),
    ("a dense tensor", &[
        "COO2CSR", "CSR2COO", "CSRDiv", "CSRGather", "CSRMM", "CSRMV", "CSRMul", "CSRReduceSum", "Coalesce",
        "SparseAdd", "SparseAddmm", "SparseConcat", "SparseReorder", "SparseReshape", "SparseSlice",
        "SparseSoftmax", "SparseTensorDenseAdd", "SparseTensorDenseMatmul", "SparseToDense", "SparseToDenseV2",
    ]),
    ("ReduceSum over comparisons", &[
        "Bincount", "BincountExt", "ConfusionMatrix", "HistcExt", "Histogram", "HistogramFixedWidth",
    ]),
    ("UnsortedSegmentSum with a constant number of segments", &[
        "SegmentMax", "SegmentMean", "SegmentMin", "SegmentProd", "SegmentSum", "SparseSegmentMean",
        "SparseSegmentSqrtN", "SparseSegmentSum",
    ]),
    ("Diag, Diagonal or MatrixBandPart", &[
        "DiagExt", "DiagPart", "MatrixDiag", "MatrixDiagPart", "MatrixDiagPartV3", "MatrixDiagV3",
        "MatrixSetDiag", "MatrixSetDiagV3",
    ]),
    ("AlltoAll", &[
        "AlltoAllV", "AlltoAllVC", "NeighborExchange",
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
    fn each_primitive_stands_once() {
        let mut names: Vec<&str> = table::names().collect();
        names.extend(UNSUPPORTED.iter().flat_map(|(_, names)| *names));
        names.sort_unstable();
        for pair in names.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
    }
}
