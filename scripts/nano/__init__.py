"""Parts of the nano pretraining script: vocabulary, data, figures."""
