"""Ops that are refused by name, with the reason."""

from __future__ import annotations

from diglot.frontends.tensorflow.ops.registry import refuse

refuse(
    "it runs Python code, which a file may not bring along",
    *"PyFunc EagerPyFunc PyFuncStateless".split(),
)
refuse(
    "it reads or writes files, which a model's file may not do",
    *"ReadFile WriteFile MatchingFiles RestoreV2 SaveV2 MergeV2Checkpoints Restore Save RestoreSlice "
    "ShardedFilename WholeFileReaderV2 TFRecordReaderV2 FixedLengthRecordReaderV2 "
    "InitializeTableFromTextFileV2 PrintV2".split(),
)
refuse(
    "torch has no tensors of strings; do this step in Python before the model",
    *"StringSplit StringSplitV2 StringJoin StringLower StringUpper StringStrip StringLength Substr "
    "StringToNumber StringToHashBucketFast StringToHashBucketStrong StringToHashBucket "
    "StringFormat StringNGrams RegexReplace StaticRegexReplace RegexFullMatch StaticRegexFullMatch "
    "AsString DecodeRaw DecodeBase64 EncodeBase64 UnicodeDecode UnicodeEncode UnicodeTranscode "
    "UnicodeDecodeWithOffsets ReduceJoin DecodeCSV ParseExample ParseExampleV2 ParseSingleExample "
    "DecodeJpeg DecodePng DecodeImage DecodeBmp DecodeGif EncodeJpeg EncodePng".split(),
)
refuse(
    "it looks up a table; do this step in Python before the model",
    *"HashTable HashTableV2 MutableHashTableV2 LookupTableFindV2 LookupTableSizeV2 "
    "LookupTableImportV2 LookupTableExportV2 InitializeTableV2 AnonymousHashTable "
    "AnonymousMutableHashTable".split(),
)
refuse(
    "the number of its results depends on the data",
    *"Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 NonMaxSuppression NonMaxSuppressionV2 "
    "NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 CombinedNonMaxSuppression "
    "DynamicPartition DynamicStitch ListDiff BooleanMask".split(),
)
refuse(
    "it is of a TensorArray that is not read or written row by row and as a whole; export with control flow v2 "
    "(tf.compat.v1.enable_control_flow_v2)",
    *"TensorArrayV3 TensorArrayReadV3 TensorArrayWriteV3 TensorArrayGatherV3 TensorArrayScatterV3 TensorArraySizeV3 "
    "TensorArrayConcatV3 TensorArraySplitV3 TensorArrayGradV3 TensorArrayCloseV3".split(),
)
refuse(
    "it changes a variable while the model runs",
    *"AssignVariableOp AssignAddVariableOp AssignSubVariableOp Assign AssignAdd AssignSub "
    "ResourceScatterAdd ResourceScatterUpdate ScatterUpdate ScatterAdd".split(),
)
refuse(
    "it is of a loop of TensorFlow 1 that is not built as tf.while_loop builds it; export with control flow v2 "
    "(tf.compat.v1.enable_control_flow_v2)",
    *"Enter Exit NextIteration LoopCond RefEnter RefExit RefNextIteration".split(),
)
refuse(
    "decoding looks for the likeliest path step by step; do this step in Python after the model",
    *"CTCGreedyDecoder CTCBeamSearchDecoder CTCLoss CTCLossV2".split(),
)
refuse(
    "torch has no such tensors in a model; give it dense ones (tf.sparse.to_dense before the model)",
    *"SparseTensorDenseMatMul SparseToDense SparseReshape SparseConcat SparseFillEmptyRows SparseReorder "
    "SparseSegmentSum SparseSegmentMean SparseSegmentSqrtN RaggedTensorToTensor RaggedRange RaggedGather "
    "RaggedTensorToSparse RaggedTensorFromVariant RaggedTensorToVariant".split(),
)
refuse(
    "it is of a graph that runs in 8 bits; translate the graph as it was before it was quantised",
    *"QuantizeV2 Quantize Dequantize QuantizedConv2D QuantizedMatMul QuantizedAdd QuantizedRelu QuantizedRelu6 "
    "QuantizedMaxPool QuantizedAvgPool QuantizedBiasAdd QuantizedConcat QuantizedConcatV2 QuantizedReshape "
    "Requantize RequantizationRange QuantizeDownAndShrinkRange QuantizedInstanceNorm".split(),
)
refuse(
    "it is one kernel for a whole recurrent layer of a GPU's library; export the layer as Keras writes it",
    *"CudnnRNN CudnnRNNV2 CudnnRNNV3 BlockLSTM BlockLSTMV2 LSTMBlockCell GRUBlockCell".split(),
)
