# Score every expression of a data set's splits: boxes for step 1, masks for steps 2 and 3. One job scores a model on all
# of them, so that it is loaded once.
def res_model(wildcards):
    """The model of step 2 or 3: the imported one that the data set's config names, or the trained one."""
    path = entry(wildcards).models.get(wildcards.experiment)
    if path:
        return expand_path(path, f"datasets.{wildcards.dataset}.models.{wildcards.experiment}")
    return results(f"{wildcards.dataset}/seed{wildcards.seed}/ratio{wildcards.ratio}/{wildcards.experiment}/"
                   f"{wildcards.step}/model.safetensors")


SPLITS = list(dict.fromkeys(tuple(each.splits) for each in plan.datasets.values()))
EVALUATED = {  # rule -> folder of the scored model, the model, what the console says
    "evaluate_rec": (
        "{dataset}/seed{seed}/rec/{head}", rec_model,
        "evaluate step 1 on {wildcards.dataset} ({wildcards.head} head, seed {wildcards.seed})",
    ),
    "evaluate_res": (
        f"{RUN}/{{step}}", res_model,
        "evaluate {wildcards.step} of {wildcards.experiment}, {wildcards.ratio} %, on {wildcards.dataset} "
        "(seed {wildcards.seed})",
    ),
}

# The number of a rule's outputs cannot depend on its wildcards, so each list of splits in the config has its own rules:
# evaluate_rec and evaluate_res for the first data set's list, evaluate_rec_2 and evaluate_res_2 for the next.
for kind, (scored, scored_model, what) in EVALUATED.items():
    for number, splits in enumerate(SPLITS, 1):
        rule:
            name: f"{kind}_{number}".removesuffix("_1")
            input:
                refs=results("{dataset}/refs.parquet"),
                model=scored_model,
                **SEEN,
            output:
                predictions=[results(f"{scored}/{split}/predictions.parquet") for split in splits],
                metrics=[results(f"{scored}/{split}/metrics.json") for split in splits],
            params:
                splits=" ".join(f"--split {split}" for split in splits),
                batch=setting("evaluate.batch"),
                seen=seen,
                out=results(scored),
                code=code("evaluate"),
            wildcard_constraints:
                dataset="|".join(re.escape(name) for name, each in plan.datasets.items() if tuple(each.splits) == splits),
            threads: threads("evaluate")
            resources: **resources_of("evaluate")
            group: "evaluations"
            message: what
            log: logs(f"{kind}/{scored}")
            benchmark: benchmarks(f"{kind}/{scored}")
            conda: environment("evaluate")
            shell:
                "on_gpus {resources.gpu} evaluate {input.refs:q} --model {input.model:q} {params.splits} {params.seen} "
                "--batch {params.batch} --threads {threads} --out {params.out:q} 2> {log:q}"
