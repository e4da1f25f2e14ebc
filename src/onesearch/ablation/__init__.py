"""An ablation: the same run in several variants, each trained with the same budget, in one table.

    onesearch ablate --run runs/demo --recipe configs/demo --study configs/ablation/views --seeds [0,1,2]

A study is a folder with a folder of overlays for each variant (`quantizer.yaml`, …), the first one being what the
others are compared with; beside them lie the overlays that all variants share, and maybe `study.yaml`. They are laid
over the recipe of the run, so one study fits every recipe. Stages that the study does not train are the run's own.

Each training lives in RUN/ablation/STUDY/VARIANT/seed-N and is resumed like every run; the table is written to
RUN/ablation/STUDY.json and drawn to STUDY.png beside it.
"""
