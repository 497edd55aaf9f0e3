"""The papers that tuners and presets come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A paper.

    Attributes:
        key: BibTeX key.
        title: As printed.
        authors: First author and the rest, as BibTeX wants them.
        year: Of publication.
        arxiv: arXiv identifier.
        venue: Where it appeared, or empty.
    """

    key: str
    title: str
    authors: str
    year: int
    arxiv: str
    venue: str = ""

    def bibtex(self) -> str:
        kind, place = ("inproceedings", f"  booktitle = {{{self.venue}}},\n") if self.venue else ("misc", "")
        return (
            f"@{kind}{{{self.key},\n  title = {{{self.title}}},\n  author = {{{self.authors}}},\n{place}"
            f"  year = {{{self.year}}},\n  eprint = {{{self.arxiv}}},\n  archivePrefix = {{arXiv}}\n}}"
        )

    def __str__(self) -> str:
        return f"{self.authors.split(' and ')[0].split(',')[0]} et al., {self.year}, arXiv {self.arxiv}"


U_TUNING = Reference(
    "jiang2023utuning",
    "Rethinking Efficient Tuning Methods from a Unified Perspective",
    "Jiang, Zeyinzi and Mao, Chaojie and Huang, Ziyuan and Lv, Yiliang and Zhao, Deli and Zhou, Jingren",
    2023,
    "2303.00690",
)
ADAPTER = Reference(
    "houlsby2019adapter",
    "Parameter-Efficient Transfer Learning for NLP",
    "Houlsby, Neil and Giurgiu, Andrei and Jastrzebski, Stanislaw and Morrone, Bruna and others",
    2019,
    "1902.00751",
    "ICML",
)
LORA = Reference(
    "hu2022lora",
    "LoRA: Low-Rank Adaptation of Large Language Models",
    "Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and others",
    2022,
    "2106.09685",
    "ICLR",
)
PREFIX = Reference(
    "li2021prefix",
    "Prefix-Tuning: Optimizing Continuous Prompts for Generation",
    "Li, Xiang Lisa and Liang, Percy",
    2021,
    "2101.00190",
    "ACL",
)
UNIFIED_VIEW = Reference(
    "he2022unified",
    "Towards a Unified View of Parameter-Efficient Transfer Learning",
    "He, Junxian and Zhou, Chunting and Ma, Xuezhe and Berg-Kirkpatrick, Taylor and Neubig, Graham",
    2022,
    "2110.04366",
    "ICLR",
)
VPT = Reference(
    "jia2022vpt",
    "Visual Prompt Tuning",
    "Jia, Menglin and Tang, Luming and Chen, Bor-Chun and Cardie, Claire and others",
    2022,
    "2203.12119",
    "ECCV",
)
SSF = Reference(
    "lian2022ssf",
    "Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning",
    "Lian, Dongze and Zhou, Daquan and Feng, Jiashi and Wang, Xinchao",
    2022,
    "2210.08823",
    "NeurIPS",
)
BITFIT = Reference(
    "zaken2022bitfit",
    "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
    "Ben Zaken, Elad and Goldberg, Yoav and Ravfogel, Shauli",
    2022,
    "2106.10199",
    "ACL",
)
LN_TUNING = Reference(
    "qi2022lntuning",
    "Parameter-Efficient Tuning on Layer Normalization for Pre-trained Language Models",
    "Qi, Wang and Ruan, Yu-Ping and Zuo, Yuan and Li, Taihao",
    2022,
    "2211.08682",
)
PFEIFFER = Reference(
    "pfeiffer2021adapterfusion",
    "AdapterFusion: Non-Destructive Task Composition for Transfer Learning",
    "Pfeiffer, Jonas and Kamath, Aishwarya and Rücklé, Andreas and Cho, Kyunghyun and Gurevych, Iryna",
    2021,
    "2005.00247",
    "EACL",
)
ADAPTFORMER = Reference(
    "chen2022adaptformer",
    "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition",
    "Chen, Shoufa and Ge, Chongjian and Tong, Zhan and Wang, Jiangliu and others",
    2022,
    "2205.13535",
    "NeurIPS",
)
ADAPTER_PLUS = Reference(
    "steitz2024adapters",
    "Adapters Strike Back",
    "Steitz, Jan-Martin O. and Roth, Stefan",
    2024,
    "2406.06820",
    "CVPR",
)
FACT = Reference(
    "jie2023fact",
    "FacT: Factor-Tuning for Lightweight Adaptation on Vision Transformer",
    "Jie, Shibo and Deng, Zhi-Hong",
    2023,
    "2212.03145",
    "AAAI",
)
UNIPELT = Reference(
    "mao2022unipelt",
    "UniPELT: A Unified Framework for Parameter-Efficient Language Model Tuning",
    "Mao, Yuning and Mathias, Lambert and Hou, Rui and Almahairi, Amjad and others",
    2022,
    "2110.07577",
    "ACL",
)
CONVPASS = Reference(
    "jie2022convpass",
    "Convolutional Bypasses Are Better Vision Transformer Adapters",
    "Jie, Shibo and Deng, Zhi-Hong",
    2022,
    "2207.07039",
)
RES_TUNING = Reference(
    "jiang2023restuning",
    "Res-Tuning: A Flexible and Efficient Tuning Paradigm via Unbinding Tuner from Backbone",
    "Jiang, Zeyinzi and Mao, Chaojie and Huang, Ziyuan and Ma, Ao and others",
    2023,
    "2310.19859",
    "NeurIPS",
)
SCEDIT = Reference(
    "jiang2024scedit",
    "SCEdit: Efficient and Controllable Image Diffusion Generation via Skip Connection Editing",
    "Jiang, Zeyinzi and Mao, Chaojie and Pan, Yulin and Han, Zhen and Zhang, Jingfeng",
    2024,
    "2312.11392",
    "CVPR",
)
MLAE = Reference(
    "wang2024mlae",
    "MLAE: Masked LoRA Experts for Visual Parameter-Efficient Fine-Tuning",
    "Wang, Junjie and Yang, Guangjing and Chen, Wentao and Yi, Huahui and others",
    2024,
    "2405.18897",
)
NOAH = Reference(
    "zhang2022noah",
    "Neural Prompt Search",
    "Zhang, Yuanhan and Zhou, Kaiyang and Liu, Ziwei",
    2022,
    "2206.04673",
)
AUTOPEFT = Reference(
    "zhou2024autopeft",
    "AutoPEFT: Automatic Configuration Search for Parameter-Efficient Fine-Tuning",
    "Zhou, Han and Wan, Xingchen and Vulić, Ivan and Korhonen, Anna",
    2024,
    "2301.12132",
    "TACL",
)
SAS = Reference(
    "nguyen2025sas",
    "Optimizing Specific and Shared Parameters for Efficient Parameter Tuning",
    "Nguyen, Van-Anh and Do, Thanh-Toan and Harandi, Mehrtash and Phung, Dinh and Le, Trung",
    2025,
    "2504.03450",
)
G_ADAPTER = Reference(
    "gui2024gadapter",
    "G-Adapter: Towards Structure-Aware Parameter-Efficient Transfer Learning for Graph Transformer Networks",
    "Gui, Anchun and Ye, Jinqiang and Xiao, Han",
    2024,
    "2305.10329",
    "AAAI",
)
SURVEY = Reference(
    "xin2024survey",
    "Parameter-Efficient Fine-Tuning for Pre-Trained Vision Models: A Survey",
    "Xin, Yi and Luo, Siqi and Zhou, Haodi and Du, Junlong and others",
    2024,
    "2402.02242",
)
DORA = Reference(
    "liu2024dora",
    "DoRA: Weight-Decomposed Low-Rank Adaptation",
    "Liu, Shih-Yang and Wang, Chien-Yi and Yin, Hongxu and Molchanov, Pavlo and others",
    2024,
    "2402.09353",
    "ICML",
)
RLRR = Reference(
    "dong2024rlrr",
    "Low-Rank Rescaled Vision Transformer Fine-Tuning: A Residual Design Approach",
    "Dong, Wei and Zhang, Xing and Chen, Bihui and Yan, Dawei and others",
    2024,
    "2403.19067",
    "CVPR",
)
IA3 = Reference(
    "liu2022ia3",
    "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
    "Liu, Haokun and Tam, Derek and Muqeeth, Mohammed and Mohta, Jay and others",
    2022,
    "2205.05638",
    "NeurIPS",
)
OFT = Reference(
    "qiu2023oft",
    "Controlling Text-to-Image Diffusion by Orthogonal Finetuning",
    "Qiu, Zeju and Liu, Weiyang and Feng, Haiwen and Xue, Yuxuan and others",
    2023,
    "2306.07280",
    "NeurIPS",
)
VERA = Reference(
    "kopiczko2024vera",
    "VeRA: Vector-based Random Matrix Adaptation",
    "Kopiczko, Dawid J. and Blankevoort, Tijmen and Asano, Yuki M.",
    2024,
    "2310.11454",
    "ICLR",
)
KADAPTATION = Reference(
    "he2023kadaptation",
    "Parameter-Efficient Model Adaptation for Vision Transformers",
    "He, Xuehai and Li, Chunyuan and Zhang, Pengchuan and Yang, Jianwei and Wang, Xin Eric",
    2023,
    "2203.16329",
    "AAAI",
)
COMPACTER = Reference(
    "mahabadi2021compacter",
    "Compacter: Efficient Low-Rank Hypercomplex Adapter Layers",
    "Karimi Mahabadi, Rabeeh and Henderson, James and Ruder, Sebastian",
    2021,
    "2106.04647",
    "NeurIPS",
)
CONSOLIDATOR = Reference(
    "hao2023consolidator",
    "Consolidator: Mergeable Adapter with Grouped Connections for Visual Adaptation",
    "Hao, Tianxiang and Chen, Hui and Guo, Yuchen and Ding, Guiguang",
    2023,
    "2305.00603",
    "ICLR",
)
REPADAPTER = Reference(
    "luo2023repadapter",
    "Towards Efficient Visual Adaption via Structural Re-parameterization",
    "Luo, Gen and Huang, Minglang and Zhou, Yiyi and Sun, Xiaoshuai and others",
    2023,
    "2302.08106",
)
ARC = Reference(
    "dong2023arc",
    "Efficient Adaptation of Large Vision Transformer via Adapter Re-Composing",
    "Dong, Wei and Yan, Dawei and Lin, Zhijun and Wang, Peng",
    2023,
    "2310.06234",
    "NeurIPS",
)
HYDRA = Reference(
    "kim2023hydra",
    "Hydra: Multi-head Low-rank Adaptation for Parameter Efficient Fine-tuning",
    "Kim, Sanghyeon and Yang, Hyunmo and Kim, Younghyun and Hong, Youngjoon and Park, Eunbyung",
    2023,
    "2309.06922",
)
AIM = Reference(
    "yang2023aim",
    "AIM: Adapting Image Models for Efficient Video Action Recognition",
    "Yang, Taojiannan and Zhu, Yi and Xie, Yusheng and Zhang, Aston and Chen, Chen and Li, Mu",
    2023,
    "2302.03024",
    "ICLR",
)
E2VPT = Reference(
    "han2023e2vpt",
    "E^2VPT: An Effective and Efficient Approach for Visual Prompt Tuning",
    "Han, Cheng and Wang, Qifan and Cui, Yiming and Cao, Zhiwen and others",
    2023,
    "2307.13770",
    "ICCV",
)
ADAPTER_BIAS = Reference(
    "fu2022adapterbias",
    "AdapterBias: Parameter-efficient Token-dependent Representation Shift for Adapters in NLP Tasks",
    "Fu, Chin-Lun and Chen, Zih-Ching and Lee, Yun-Ru and Lee, Hung-yi",
    2022,
    "2205.00305",
    "NAACL",
)
