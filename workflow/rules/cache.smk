# Snakemake refuses to have both a benchmark and the output cache in a rule: those that the cache may answer go without.
for shared in workflow.rules:
    if shared.cache and shared.cache.output:
        shared._benchmark = None
